// SPDX-License-Identifier: Apache-2.0
#include "lingerd/intake.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "lingerd/log.h"

namespace lingerd {
namespace {

constexpr std::size_t kBatch = 64;  // messages a system call
constexpr int kBatchesAtOnce = 8;   // then it's another peer's turn; a full queue is 555 messages

// Two descriptors fit: the kernel drops any other one itself and says MSG_CTRUNC.
constexpr std::size_t kMostDescriptors = 2;
constexpr std::size_t kControlSize = CMSG_LEN(kMostDescriptors * sizeof(int));

struct Buffers {
  std::array<mmsghdr, kBatch> messages{};
  std::array<iovec, kBatch> vectors{};
  std::array<std::array<std::byte, sizeof(Record)>, kBatch> records{};
  struct alignas(cmsghdr) Control {
    std::array<std::byte, CMSG_SPACE(kMostDescriptors * sizeof(int))> bytes;
  };
  std::array<Control, kBatch> controls{};

  Buffers() {
    for (std::size_t i = 0; i < kBatch; ++i) {
      vectors[i] = {records[i].data(), records[i].size()};
      messages[i].msg_hdr.msg_iov = &vectors[i];
      messages[i].msg_hdr.msg_iovlen = 1;
      messages[i].msg_hdr.msg_control = controls[i].bytes.data();
    }
  }

  int receive(int fd) {
    for (mmsghdr& message : messages) message.msg_hdr.msg_controllen = kControlSize;
    return recvmmsg(fd, messages.data(), kBatch, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, nullptr);
  }

  // The socket, and behind it a content; either may be missing.
  std::array<UniqueFd, kMostDescriptors> descriptors(std::size_t index) {
    const cmsghdr* control = CMSG_FIRSTHDR(&messages[index].msg_hdr);
    std::array<int, kMostDescriptors> fds{-1, -1};
    if (control != nullptr && control->cmsg_level == SOL_SOCKET &&
        control->cmsg_type == SCM_RIGHTS && control->cmsg_len >= CMSG_LEN(sizeof(int))) {
      std::memcpy(fds.data(), CMSG_DATA(control),
                  std::min(control->cmsg_len - CMSG_LEN(0), sizeof fds));
    }
    return {UniqueFd(fds[0]), UniqueFd(fds[1])};
  }

  [[nodiscard]] bool empty(std::size_t index) const {
    const mmsghdr& message = messages[index];
    return message.msg_len == 0 && message.msg_hdr.msg_controllen == 0;
  }
};

Buffers& buffers() {
  static Buffers the_one;  // 64 records: too large for the stack of each call, and one thread reads
  return the_one;
}

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
  switch (error) {
    case 0:
    case EAGAIN:
    case EINTR:
    case ENOMEM:
    case ENOBUFS:
    case EMFILE:
    case ENFILE: return false;
    default: return true;
  }
}

// Whether the peer has closed by now: what epoll reported may be older.
bool has_hung_up(int fd) {
  pollfd now{fd, POLLRDHUP, 0};
  return poll(&now, 1, 0) > 0;
}

}  // namespace

Intake::Intake(Lingerer& lingerer, Parking& parking, int epoll_fd, std::uint32_t max_peers)
    : lingerer_(lingerer), parking_(parking), epoll_fd_(epoll_fd), max_peers_(max_peers) {}

bool Intake::accept_peers(int listener_fd, std::uint64_t now_ns) {
  for (std::size_t i = 0; i < kBatch; ++i) {
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

void Intake::admit_peer(UniqueFd fd, std::uint64_t now_ns, bool greeted) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return;
  const int raw = fd.get();
  Peer peer{std::move(fd), credentials.pid, credentials.uid, Offers(lingerer_)};
  if (!allowed(peer.uid)) {
    (void)greet(raw, Verdict::kDenied);
    reject(peer, Complaint::kDenied, "a connection: --allow-user doesn't name this user", now_ns);
    return;
  }
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP;  // a half-closed peer is readable for ever otherwise
  event.data.u64 = kNotASocket | static_cast<std::uint32_t>(raw);
  if (peers_.size() >= max_peers_ || epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, raw, &event) != 0) {
    (void)greet(raw, Verdict::kFull);
    reject(peer, Complaint::kFull,
           "a connection: as many are open as descriptors allow; raise LimitNOFILE", now_ns);
    return;
  }
  if (!greeted && !greet(raw, Verdict::kWelcome)) return;
  peers_.emplace(raw, std::move(peer));
}

bool Intake::allowed(uid_t uid) const {
  return allowed_uids_.empty() || std::ranges::find(allowed_uids_, uid) != allowed_uids_.end();
}

std::size_t Intake::receive(int peer_fd, std::uint32_t epoll_events, std::uint64_t now_ns,
                            bool quick) {
  const auto it = peers_.find(peer_fd);
  if (it == peers_.end()) return 0;
  const bool hung_up = (epoll_events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0;
  std::size_t arrived = 0;
  for (int batch = 0; batch < kBatchesAtOnce; ++batch) {
    const int n = buffers().receive(peer_fd);
    const int error = n < 0 ? errno : 0;
    // A peer that died without having read its greeting: the kernel says so once, and then gives
    // what was sent before.
    if (error == ECONNRESET) continue;
    std::size_t count = n > 0 ? static_cast<std::size_t>(n) : 0;
    // At the end of a connection recvmmsg fills the batch with empty messages, which look like what
    // a peer may send on purpose: only a hung-up peer's are its end.
    const bool last_is_empty = count > 0 && buffers().empty(count - 1);
    const bool ended = (last_is_empty && (hung_up || has_hung_up(peer_fd))) ||
                       (error == EAGAIN && hung_up) || is_final(error);
    while (ended && count > 0 && buffers().empty(count - 1)) --count;
    for (std::size_t i = 0; i < count; ++i) arrived += take(it->second, i, now_ns, quick) ? 1 : 0;
    if (ended) {
      peers_.erase(it);
      return arrived;
    }
    if (n < static_cast<int>(kBatch)) break;
  }
  return arrived;
}

// One message of the batch. False: it brought no socket that lingers.
bool Intake::take(Peer& peer, std::size_t index, std::uint64_t now_ns, bool quick) {
  const mmsghdr& message = buffers().messages[index];
  auto [fd, second] = buffers().descriptors(index);
  Handoff handoff;
  DecodeResult result = decode(std::span(buffers().records[index]).first(message.msg_len), handoff);
  if ((message.msg_hdr.msg_flags & MSG_TRUNC) != 0 && result == DecodeResult::kOk) {
    result = DecodeResult::kWrongSize;
  }
  if (result == DecodeResult::kOk) lingerer_.count_reported(handoff.fallbacks);
  const bool truncated = (message.msg_hdr.msg_flags & MSG_CTRUNC) != 0;
  SocketId id = 0;
  bool arrived = false;
  if (result != DecodeResult::kOk) {
    reject(peer, Complaint::kRecord, describe(result).data(), now_ns);
  } else if (handoff.kind == RecordKind::kDeliver) {
    make_room(2, now_ns);
    take_offer(peer, fd, second, handoff, truncated, now_ns);
  } else if (handoff.kind == RecordKind::kIdle) {
    arrived = take_idle(peer, fd, second, handoff, truncated, now_ns);
  } else if (handoff.kind == RecordKind::kBegin) {
    arrived = !fd && !truncated && peer.offers.begin(handoff.ticket, now_ns);
    if (!arrived) reject(peer, Complaint::kBegin, "to begin what wasn't offered", now_ns);
  } else if (fd && (second || truncated)) {
    reject(peer, Complaint::kExtra, "a record with the wrong number of descriptors", now_ns);
  } else if (!fd) {
    reject(peer, Complaint::kNoDescriptor,
           truncated
               ? "a record whose descriptor got lost: this process has too many open, or a policy "
                 "(SELinux) took it away"
               : "a record without a descriptor",
           now_ns);
  } else if (!KernelSockets::adopt(fd, id)) {
    reject(peer, Complaint::kDescriptor, "a descriptor that is no connected TCP socket", now_ns);
  } else {
    make_room(1, now_ns);
    lingerer_.arrive(id, handoff, now_ns, quick);
    return true;
  }
  KernelSockets::discard(std::move(fd));
  KernelSockets::discard(std::move(second));
  return arrived;
}

// A delivery is looked at, and the peer told what came of it. What isn't accepted is discarded by
// the caller; an answer that doesn't get through is the same to the peer as none.
void Intake::take_offer(Peer& peer, UniqueFd& socket, UniqueFd& content, const Handoff& handoff,
                        bool truncated, std::uint64_t now_ns) {
  Answer answer;
  answer.ticket = handoff.ticket;
  if (truncated || !socket || !content) {
    reject(peer, Complaint::kContent,
           truncated
               ? "a delivery whose descriptors got lost, wholly or in part: too many were sent, "
                 "this process has too many open, or a policy (SELinux) took them away"
               : "a delivery without its two descriptors",
           now_ns);
  } else if (!KernelSockets::is_clients(socket.get())) {
    reject(peer, Complaint::kDescriptor, "a descriptor that is no connected TCP socket", now_ns);
  } else {
    answer.acceptance = peer.offers.take(socket, content, handoff, now_ns);
    if (answer.acceptance == Acceptance::kUnfit) {
      reject(peer, Complaint::kContent,
             "a response's rest that is neither a sealed memfd nor a file of this machine open for "
             "reading only, or that is too short",
             now_ns);
    }
  }
  (void)send(peer.fd.get(), &answer, sizeof answer, MSG_DONTWAIT | MSG_NOSIGNAL);
}

// An idle connection. True: it can't be parked, and lingers instead.
bool Intake::take_idle(const Peer& peer, UniqueFd& socket, UniqueFd& way_back,
                       const Handoff& handoff, bool truncated, std::uint64_t now_ns) {
  SocketId id = 0;
  if (!socket) {
    reject(peer, Complaint::kNoDescriptor, "an idle connection whose descriptor got lost", now_ns);
    return false;
  }
  if (!KernelSockets::adopt(socket, id)) {
    reject(peer, Complaint::kDescriptor, "a descriptor that is no connected TCP socket", now_ns);
    return false;
  }
  make_room(1, now_ns);
  if (way_back && !truncated && parking_.arrive(id, way_back, handoff, now_ns)) return false;
  // The socket is good: its client gets an end.
  shutdown(static_cast<int>(id), SHUT_WR);
  lingerer_.arrive(id, handoff, now_ns, true);
  reject(peer, Complaint::kContent,
         truncated ? "an idle connection whose way back got lost: too many descriptors were sent, "
                     "this process has too many open, or a policy (SELinux) took it away"
                   : "an idle connection whose way back is no socket's name",
         now_ns);
  return true;
}

// An idle connection may be closed at any time; a linger's end may cost a response.
void Intake::make_room(std::size_t room, std::uint64_t now_ns) {
  const std::size_t needed = lingerer_.descriptors() + room;
  parking_.parked().shrink_to(max_connections_ > needed ? max_connections_ - needed : 0, now_ns);
  // What is still too much are lingers: some were parked a moment ago.
  lingerer_.make_room(room + parking_.parked().size(), now_ns);
}

// From here on the peer's send() fails, and its child lingers itself; what was sent before is still
// in the queue, and is taken.
void Intake::retire(Peer& peer, std::uint64_t now_ns) {
  const int fd = peer.fd.get();
  shutdown(fd, SHUT_RD);
  for (;;) {
    const int n = buffers().receive(fd);
    if (n < 0 && errno == ECONNRESET) continue;  // said once, of a greeting that nobody has read
    if (n <= 0) return;
    bool any = false;
    for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
      if (buffers().empty(i)) continue;
      any = true;
      take(peer, i, now_ns, true);
    }
    if (!any) return;
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
    it = peers_.erase(it);
  }
}

void Intake::settle_offers(std::uint64_t now_ns) {
  retire_those([](const Peer& peer) { return !peer.offers.empty(); }, now_ns);
}

void Intake::set_allowed(std::vector<uid_t> uids, std::uint64_t now_ns) {
  allowed_uids_ = std::move(uids);
  retire_those([this](const Peer& peer) { return !allowed(peer.uid); }, now_ns);
}

void Intake::reject(const Peer& peer, Complaint complaint, const char* what, std::uint64_t now_ns) {
  lingerer_.count_rejected();
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
