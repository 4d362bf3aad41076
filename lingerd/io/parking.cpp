// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/parking.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <limits>
#include <span>
#include <system_error>
#include <utility>

#include "base/errors.h"
#include "base/log.h"
#include "lingerd/core/carry.h"
#include "lingerd/core/goodbye.h"
#include "lingerd/core/guard_table.h"
#include "lingerd/core/return_lines.h"
#include "lingerd/io/closer.h"
#include "lingerd/io/epoll_tag.h"
#include "lingerd/io/sockets.h"

namespace lingerd {
namespace {

constexpr std::size_t kEventsAtOnce = 256;

// Behind whatever is there to read.
bool has_fin(int fd) {
  pollfd look{fd, POLLRDHUP, 0};
  return poll(&look, 1, 0) > 0 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

UniqueFd new_epoll() {
  UniqueFd fd(epoll_create1(EPOLL_CLOEXEC));
  if (!fd) throw std::system_error(errno, std::system_category(), "epoll_create1");
  return fd;
}

}  // namespace

Parking::Parking(Lingerer& lingerer, Capacity& capacity, DaemonCounters& counters)
    : lingerer_(lingerer),
      counters_(counters),
      epoll_(new_epoll()),
      parked_(*this, capacity, counters) {}

void Parking::dispatch(std::uint64_t now_ns) {
  std::array<epoll_event, kEventsAtOnce> events;
  const int n = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < n; ++i) {
    const std::uint64_t tag = events[static_cast<std::size_t>(i)].data.u64;
    parked_.ready(socket_of(tag), generation_of(tag), now_ns);
  }
}

Parking::Verdict Parking::arrive(SocketId id, UniqueFd& address, const Handoff& handoff,
                                 std::uint64_t now_ns) {
  if (guard_.has_taken(static_cast<int>(id), handoff.handed_off_ns)) {
    KernelSockets::discard(UniqueFd(static_cast<int>(id)));
    parked_.count_home(handoff.kind);
    return Verdict::kGood;
  }
  const ReturnAddresses::Adopted adopted = addresses_.adopt(address, handoff.user);
  if (adopted.verdict != Verdict::kGood) return adopted.verdict;
  guard_.watch(id, addresses_.descriptor(adopted.id), Stay::of(handoff, to_millis(now_ns)));
  parked_.arrive(id, adopted.id, handoff, now_ns);
  return Verdict::kGood;
}

void Parking::let_guard_watch(const Parked::Carried& parked) {
  guard_.watch(parked.id, addresses_.descriptor(parked.address), parked.state.stay);
}

// What the guard found in queues and could not close. Its messages are there still, and are
// refused.
void Parking::take_left_copies() {
  for (LeftCopies::Copy copy; guard_.take_left(copy);) {
    closer().take(UniqueFd(copy.fd), copy.user);
  }
}

void Parking::beat(std::uint64_t now_ns) {
  guard_.beat();
  take_left_copies();
  const std::uint64_t sent = guard_.sent();
  const std::uint64_t unread = guard_.sent_unread();
  if (sent == home_ && unread == home_unread_) return;
  (void)parked_.let_go([this](SocketId id) { return guard_.is_home(id); }, now_ns);
  log::write(log::Level::kWarning,
             "this process has stood still (stopped, or stuck in a system call): meanwhile its "
             "guard sent %llu parked connections with a request back to httpd",
             static_cast<unsigned long long>(sent - home_ + unread - home_unread_));
  home_ = sent;
  home_unread_ = unread;
}

void Parking::dismiss_guard(std::uint64_t now_ns) {
  guard_.stop();
  take_left_copies();
  (void)parked_.let_go([this](SocketId id) { return guard_.is_home(id); }, now_ns);
}

Parking::Verdict Parking::Announced::take(UniqueFd& address, Shares::User user) {
  const ReturnAddresses::Adopted adopted = parking_->addresses_.adopt(address, user);
  if (adopted.verdict != Verdict::kGood) return adopted.verdict;
  if (id_) parking_->addresses_.release(*id_);
  id_ = adopted.id;
  return Verdict::kGood;
}

bool Parking::end_lost_ways(std::uint64_t now_ns) {
  bool any = false;
  for (const AddressId address : addresses_.ids()) {
    if (!is_lost(address)) continue;
    any = true;
    if (addresses_.withdrawn(address)) {
      ++counters_[DaemonCounter::kOverShare];
      say_withdrawn(addresses_.owner(address), now_ns);
    }
    parked_.abandon(address, now_ns);
  }
  if (std::exchange(any_denied_, false)) {
    log::write(log::Level::kError,
               "may no longer connect to httpd's private listener (permission denied): parked "
               "connections that should go back there end, and no more are taken. Has a policy of "
               "AppArmor or SELinux, or the file's mode, changed?");
  }
  return any;
}

void Parking::say_withdrawn(Shares::User owner, std::uint64_t now_ns) {
  const auto held_back = withdrawn_limiter_.allow(now_ns / 1'000'000);
  if (!held_back) return;
  log::write(log::Level::kWarning,
             "user %lu had more than its share of the %llu ways back to httpd that lingerd keeps, "
             "and another user needed one: what was parked with it ends (%llu more since). A site "
             "needs one for each httpd: see what that user runs; --allow-user keeps it out",
             static_cast<unsigned long>(owner), static_cast<unsigned long long>(kMostAddresses),
             static_cast<unsigned long long>(*held_back));
}

void Parking::look_after_httpd(std::uint64_t now_ns) {
  for (const AddressId address : addresses_.ids()) {
    if (!addresses_.alive(address)) parked_.abandon(address, now_ns);
  }
  if (parked_.size() > 0) guard_.start();
}

// Once: until it is asked for again, epoll says no more. What is on its way back stays readable.
bool Parking::watch(SocketId id, std::uint32_t generation, Watch how) {
  epoll_event event{};
  event.events = EPOLLRDHUP | EPOLLONESHOT;
  if (how != Watch::kForFin) event.events |= EPOLLIN | EPOLLPRI;
  event.data.u64 = socket_tag(id, generation);
  return epoll_ctl(epoll_.get(), how == Watch::kFirst ? EPOLL_CTL_ADD : EPOLL_CTL_MOD,
                   static_cast<int>(id), &event) == 0;
}

ParkOps::Peek Parking::peek(SocketId id, bool over_tls) {
  std::array<std::byte, kLongestGoodbye + 1> bytes{};  // one more than can be a goodbye
  const int fd = static_cast<int>(id);
  const ssize_t n = recv(fd, bytes.data(), over_tls ? bytes.size() : 1, MSG_PEEK | MSG_DONTWAIT);
  if (n > 0) {
    const auto there = std::span(bytes).first(static_cast<std::size_t>(n));
    if (!over_tls || !is_goodbye(there)) return Peek::kBytes;
    if (!has_fin(fd)) return Peek::kGoodbye;
    // Unread it would make the close a reset, and who only half closed would see that.
    recv(fd, nullptr, kLongestGoodbye, MSG_TRUNC | MSG_DONTWAIT);
    return Peek::kClosed;
  }
  return n < 0 && is_transient(errno) ? Peek::kNothing : Peek::kClosed;
}

Arrived Parking::look(SocketId id, std::size_t front) {
  const int fd = static_cast<int>(id);
  Arrived arrived;
  pollfd state{fd, POLLIN | POLLPRI | POLLRDHUP, 0};
  poll(&state, 1, 0);
  if ((state.revents & (POLLERR | POLLHUP)) != 0) arrived.state = Arrived::State::kClosed;
  if (arrived.state == Arrived::State::kClosed) return arrived;
  if ((state.revents & (POLLPRI | POLLRDHUP)) != 0) arrived.state = Arrived::State::kFinished;
  arrived.readable = (state.revents & POLLIN) != 0;
  int bytes = 0;
  if (ioctl(fd, SIOCINQ, &bytes) == 0 && bytes > 0) arrived.bytes = static_cast<unsigned>(bytes);
  if (front == 0 || arrived.bytes == 0) return arrived;
  front_.resize(std::max(front_.size(), std::min<std::size_t>(front, arrived.bytes)));
  const ssize_t n =
      recv(fd, front_.data(), std::min(front, front_.size()), MSG_PEEK | MSG_DONTWAIT);
  if (n > 0) arrived.front = {front_.data(), static_cast<std::size_t>(n)};
  return arrived;
}

// The kernel makes room for as many, up to half of what net.ipv4.tcp_rmem allows, without anybody
// reading (Linux 4.18), and keeps it. Before, or where it doesn't know this, the buffer is full
// early. A socket counts as readable as well when its window is nearly closed: so there is more
// room than for the next byte, and the client hears of it at once, by the ACK that goes with a look
// (tcp_cleanup_rbuf).
void Parking::await(SocketId id, std::uint64_t bytes) {
  constexpr std::uint64_t kFitsAnyway = 32'768;
  constexpr std::uint64_t kMoreRoom = 131'072;
  const auto set = [id](std::uint64_t least) {
    const int value =
        static_cast<int>(std::min<std::uint64_t>(least, std::numeric_limits<int>::max()));
    setsockopt(static_cast<int>(id), SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value);
  };
  if (bytes > kFitsAnyway) set(bytes + kMoreRoom);
  set(bytes);
  char byte = 0;
  if (bytes > kFitsAnyway) {
    (void)recv(static_cast<int>(id), &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT);
  }
}

ParkOps::SendBack Parking::send_back(SocketId id, AddressId to, const Return& back) {
  const SendBack how = addresses_.send(to, static_cast<int>(id), back);
  any_denied_ = any_denied_ || (how == SendBack::kGone && addresses_.denied(to));
  return how;
}

// Before the descriptor is anybody else's: epoll watches the open file, which httpd has too.
void Parking::forget(SocketId id) {
  guard_.forget(id);
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, static_cast<int>(id), nullptr);
}

void Parking::close(SocketId id) {
  forget(id);
  KernelSockets::discard(UniqueFd(static_cast<int>(id)));
}

void Parking::linger(SocketId id, const Handoff& handoff, std::uint64_t now_ns) {
  forget(id);
  shutdown(static_cast<int>(id), SHUT_WR);
  lingerer_.arrive(id, handoff, now_ns, true);
}

void Parking::release(AddressId address) {
  addresses_.release(address);
}

Parking::Luggage Parking::carry_out() const {
  Luggage luggage;
  const std::vector<AddressId> ids = addresses_.ids();
  for (const AddressId id : ids) luggage.addresses.push_back(addresses_.descriptor(id));
  for (const Parked::Carried& carried : parked_.carry_out()) {
    luggage.sockets.push_back(static_cast<int>(carried.id));
    luggage.states.push_back(carried.state);
    luggage.states.back().address =
        static_cast<std::uint16_t>(std::ranges::find(ids, carried.address) - ids.begin());
  }
  return luggage;
}

std::size_t Parking::carry_in(const std::vector<CarriedParking>& states,
                              std::vector<UniqueFd>& sockets, std::vector<UniqueFd> addresses,
                              std::uint64_t now_ns) {
  // Each held once while they are counted: the first user of an address brings its descriptor.
  std::vector<std::optional<AddressId>> ids;
  ids.reserve(addresses.size());
  std::vector<Shares::User> owners(addresses.size());
  for (const CarriedParking& state : states) {
    if (state.address < owners.size()) owners[state.address] = state.user;
  }
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    UniqueFd& fd = addresses[i];
    const auto [verdict, id] = fd ? addresses_.adopt(fd, owners[i]) : ReturnAddresses::Adopted{};
    ids.push_back(verdict == Verdict::kGood ? std::optional(id) : std::nullopt);
  }
  std::vector<Parked::Carried> parked;
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    const CarriedParking& state = states[i];
    SocketId id = 0;
    if (!sockets[i] || state.address >= ids.size() || !ids[state.address]) continue;
    if (!KernelSockets::adopt(sockets[i], id)) continue;
    addresses_.hold(*ids[state.address]);
    parked.push_back({id, *ids[state.address], state});
  }
  for (const auto& id : ids) {
    if (id) addresses_.release(*id);
  }
  for (const Parked::Carried& each : parked) let_guard_watch(each);
  const std::size_t count = parked.size();
  parked_.carry_in(std::move(parked), now_ns);
  return count;
}

}  // namespace lingerd
