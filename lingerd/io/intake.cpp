// SPDX-License-Identifier: Apache-2.0
// The peers: which come, which are listened to, which go. What they bring is intake_take.cpp's.
#include "lingerd/io/intake.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "base/errors.h"
#include "base/log.h"
#include "base/unix_limits.h"
#include "base/unix_socket.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/settings.h"
#include "lingerd/io/closer.h"
#include "lingerd/io/epoll_tag.h"
#include "lingerd/io/return_addresses.h"

namespace lingerd {
namespace {

constexpr std::size_t kAcceptedAtOnce = 64;
constexpr std::size_t kMessagesAtOnce = 512;  // then it's another peer's turn

// Places among the peers that no single user can take: an eighth, but no more than a usual httpd
// needs.
constexpr std::uint32_t kMostSpared = 64;

// False: memory is short. A peer without a greeting would wait for ever: its connection must not
// stay. One that has gone already needs none, and may have sent something before.
bool greet(int fd, Verdict verdict) {
  Greeting greeting;
  greeting.verdict = verdict;
  greeting.kinds =
      ReturnAddresses::work_here() ? kAllKinds : kAllKinds & ~bit_of(RecordKind::kIdle);
  const ssize_t sent = send(fd, &greeting, sizeof greeting, MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent >= 0 || errno == EPIPE;
}

// Whether a connection that can't be read from for this reason never will be again. If it's only
// for now, epoll says so in the next turn.
bool is_final(int error) {
  return error != 0 && !is_transient(error) && error != EMFILE && error != ENFILE;
}

// Whether the peer has closed by now: what epoll reported may be older.
bool has_hung_up(int fd) {
  pollfd now{fd, POLLRDHUP, 0};
  return poll(&now, 1, 0) > 0;
}

}  // namespace

Intake::Intake(Lingerer& lingerer, Deliveries& deliveries, Parking& parking, Capacity& capacity,
               DaemonCounters& counters, int epoll_fd, std::uint32_t max_peers, std::uint32_t batch)
    : lingerer_(lingerer),
      deliveries_(deliveries),
      parking_(parking),
      capacity_(capacity),
      counters_(counters),
      epoll_fd_(epoll_fd),
      max_peers_(max_peers),
      batch_size_(batch) {}

bool Intake::accept_peers(int listener_fd, std::uint64_t now_ns) {
  for (std::size_t i = 0; i < kAcceptedAtOnce; ++i) {
    // Those that are turned away have to be closed, too.
    if (closer().excess() > batch_size_ * kMostInMessage) return false;
    UniqueFd fd(accept4(listener_fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd) {
      admit_peer(std::move(fd), now_ns, false);
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    return errno == EAGAIN;
  }
  return true;
}

void Intake::readmit(UniqueFd fd, std::uint64_t now_ns) {
  admit_peer(std::move(fd), now_ns, true);
}

std::vector<int> Intake::descriptors() const {
  std::vector<int> out;
  out.reserve(peers_.size());
  for (const auto& [fd, peer] : peers_) out.push_back(fd);
  return out;
}

bool Intake::watch(int fd) const {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP;  // a half-closed peer is readable for ever otherwise
  event.data.u64 = peer_tag(fd);
  return epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) == 0;
}

bool Intake::may_come(uid_t uid) const {
  if (peers_.size() >= max_peers_) return false;
  const auto there = peers_of_.find(uid);
  const std::uint32_t spared = std::min(max_peers_ / 8, kMostSpared);
  return there == peers_of_.end() || there->second < max_peers_ - spared;
}

void Intake::turn_away(Peer& peer, Verdict verdict, const Refusal& refusal, std::uint64_t now_ns) {
  (void)greet(peer.fd.get(), verdict);
  closer().take(std::move(peer.fd), peer.uid);
  reject(peer, refusal.complaint, refusal.why, now_ns);
}

void Intake::admit_peer(UniqueFd fd, std::uint64_t now_ns, bool greeted) {
  const int raw = fd.get();
  const std::optional<ucred> known = peer_of(raw);
  const ucred process = known.value_or(ucred{});
  Peer peer{std::move(fd), process.pid, process.uid,
            Offers(lingerer_, deliveries_, counters_, process.uid), Parking::Announced(parking_)};
  if (!known || !allowed(peer.uid)) {
    turn_away(peer, Verdict::kDenied,
              {Complaint::kDenied, "a connection: --allow-user doesn't name this user"}, now_ns);
  } else if (!may_come(peer.uid) || !watch(raw)) {
    turn_away(peer, Verdict::kFull,
              {Complaint::kFull,
               "a connection: as many are open as descriptors allow; raise LimitNOFILE"},
              now_ns);
  } else if (!greeted && !greet(raw, Verdict::kWelcome)) {
    epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, raw, nullptr);
    closer().take(std::move(peer.fd), peer.uid);
  } else {
    ++peers_of_[peer.uid];
    peers_.emplace(raw, std::move(peer));
  }
}

bool Intake::allowed(uid_t uid) const {
  return allowed_uids_.empty() || std::ranges::find(allowed_uids_, uid) != allowed_uids_.end();
}

Intake::Peers::iterator Intake::part_with(Peers::iterator it) {
  Peer& peer = it->second;
  // The closer lets it live for a while longer.
  if (!peer.held_back) epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, it->first, nullptr);
  if (peer.held_back) std::erase(held_back_, it->first);
  if (--peers_of_[peer.uid] == 0) peers_of_.erase(peer.uid);
  closer().take(std::move(peer.fd), peer.uid);
  return peers_.erase(it);
}

// What it has sent fills its user's share of the table until that is closed. DEL and not only no
// events: a hang-up is always reported.
void Intake::hold_back(Peer& peer) {
  epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, peer.fd.get(), nullptr);
  peer.held_back = true;
  held_back_.push_back(peer.fd.get());
  ++counters_[DaemonCounter::kPeersHeldBack];
}

void Intake::look_after_peers() {
  std::erase_if(held_back_, [this](int fd) {
    Peer& peer = peers_.at(fd);
    if (!closer().has_room_for(peer.uid) || !watch(fd)) return false;
    peer.held_back = false;
    return true;
  });
}

std::size_t Intake::receive(int peer_fd, std::uint32_t epoll_events, std::uint64_t now_ns,
                            bool quick) {
  const auto it = peers_.find(peer_fd);
  if (it == peers_.end() || it->second.held_back) return 0;
  Peer& peer = it->second;
  const bool hung_up = (epoll_events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0;
  std::size_t arrived = 0;
  for (std::size_t done = 0; done < kMessagesAtOnce; done += batch_size_) {
    if (!closer().has_room_for(peer.uid)) {
      hold_back(peer);
      return arrived;
    }
    const Read read = read_some(peer, hung_up, arrived, now_ns, quick);
    if (read == Read::kEnd) part_with(it);
    if (read != Read::kMore) break;
  }
  return arrived;
}

// One batch.
Intake::Read Intake::read_some(Peer& peer, bool hung_up, std::size_t& arrived, std::uint64_t now_ns,
                               bool quick) {
  // What waits to be closed beyond its room takes that of peers that haven't come, then of lingers.
  const std::size_t free = max_peers_ - std::min<std::size_t>(peers_.size(), max_peers_);
  if (const std::size_t excess = closer().excess(); excess > free) {
    capacity_.make_room(excess - free, now_ns);
  }
  const std::size_t most = closer().is_clear(peer.uid) ? batch_size_ : 1;
  const bool exact = peer.ending;
  const int n = batch_.receive(peer.fd.get(), most);
  const int error = n < 0 ? errno : 0;
  // A peer that died without having read its greeting: the kernel says so once, and then gives
  // what was sent before.
  if (error == ECONNRESET) return Read::kMore;
  std::size_t count = n > 0 ? static_cast<std::size_t>(n) : 0;
  bool ended = is_final(error) || (error == EAGAIN && hung_up);
  if (count > 0 && batch_.empty(count - 1)) {
    // The end, or a message of a peer that likes them so: only one that has hung up can be at its
    // end, and whether it is we know from here on. Others may lie behind it.
    if (exact) {
      ended = true;
    } else if (hung_up || has_hung_up(peer.fd.get())) {
      peer.ending = Batch::tell_messages_from_the_end(peer.fd.get());
      ended = !peer.ending;
    }
    while ((ended || peer.ending) && count > 0 && batch_.empty(count - 1)) --count;
  }
  for (std::size_t i = 0; i < count; ++i) arrived += take(peer, i, now_ns, quick) ? 1 : 0;
  if (ended) return Read::kEnd;
  return exact != peer.ending || n == static_cast<int>(most) ? Read::kMore : Read::kNothing;
}

// From here on the peer's send() fails, and its child lingers itself; what was sent before is still
// in the queue, and is taken, unless it has been filled with what nobody wants.
void Intake::retire(Peer& peer, std::uint64_t now_ns) {
  shutdown(peer.fd.get(), SHUT_RD);
  peer.ending = peer.ending || Batch::tell_messages_from_the_end(peer.fd.get());
  std::size_t arrived = 0;
  while (peer.ending && closer().has_room_for(peer.uid) &&
         read_some(peer, true, arrived, now_ns, true) == Read::kMore) {
  }
}

void Intake::close_all(std::uint64_t now_ns) {
  retire_those([](const Peer&) { return true; }, now_ns);
}

template <typename Leaves>
void Intake::retire_those(Leaves leaves, std::uint64_t now_ns) {
  for (auto it = peers_.begin(); it != peers_.end();) {
    if (!leaves(it->second)) {
      ++it;
      continue;
    }
    retire(it->second, now_ns);
    it = part_with(it);
  }
}

void Intake::settle_ways_back(std::uint64_t now_ns) {
  retire_those([](const Peer& peer) { return peer.way_back.is_lost(); }, now_ns);
}

void Intake::settle_offers(std::uint64_t now_ns) {
  retire_those([](const Peer& peer) { return !peer.offers.empty(); }, now_ns);
}

void Intake::expire_offers(std::uint64_t now_ns) {
  for (auto& [fd, peer] : peers_) peer.offers.expire(now_ns);
}

void Intake::set_allowed(std::vector<uid_t> uids, std::uint64_t now_ns) {
  allowed_uids_ = std::move(uids);
  retire_those([this](const Peer& peer) { return !allowed(peer.uid); }, now_ns);
}

void Intake::reject(const Peer& peer, Complaint complaint, const char* what, std::uint64_t now_ns) {
  ++counters_[DaemonCounter::kRejected];
  complain(peer, complaint, what, now_ns);
}

void Intake::complain(const Peer& peer, Complaint complaint, const char* what,
                      std::uint64_t now_ns) {
  const auto held_back = limiters_[static_cast<std::size_t>(complaint)].allow(now_ns / 1'000'000);
  if (!held_back) return;
  log::write(log::Level::kWarning, "refused %s (from process %ld, user %lu; %llu more since)", what,
             static_cast<long>(peer.pid), static_cast<unsigned long>(peer.uid),
             static_cast<unsigned long long>(*held_back));
}

}  // namespace lingerd
