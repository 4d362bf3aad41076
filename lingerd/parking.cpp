// SPDX-License-Identifier: Apache-2.0
#include "lingerd/parking.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "lingerd/sockets.h"

namespace lingerd {
namespace {

constexpr std::size_t kEventsAtOnce = 256;

UniqueFd new_epoll() {
  UniqueFd fd(epoll_create1(EPOLL_CLOEXEC));
  if (!fd) throw std::system_error(errno, std::system_category(), "epoll_create1");
  return fd;
}

}  // namespace

Parking::Parking(Lingerer& lingerer)
    : lingerer_(lingerer), epoll_(new_epoll()), parked_(*this, lingerer.shared_counters()) {}

void Parking::dispatch(std::uint64_t now_ns) {
  std::array<epoll_event, kEventsAtOnce> events;
  const int n = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < n; ++i) {
    const std::uint64_t tag = events[static_cast<std::size_t>(i)].data.u64;
    parked_.ready(static_cast<SocketId>(tag), static_cast<std::uint32_t>(tag >> 32), now_ns);
  }
}

bool Parking::arrive(SocketId id, UniqueFd& address, const Handoff& handoff, std::uint64_t now_ns) {
  const std::optional<AddressId> known = addresses_.adopt(address);
  if (!known) return false;
  parked_.arrive(id, *known, handoff, now_ns);
  return true;
}

void Parking::look_after_httpd(std::uint64_t now_ns) {
  for (const AddressId address : addresses_.ids()) {
    if (!addresses_.alive(address)) parked_.abandon(address, now_ns);
  }
}

// Once: until it is asked for again, epoll says no more. What is on its way back stays readable.
bool Parking::watch(SocketId id, std::uint32_t generation, bool again) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT;
  event.data.u64 = std::uint64_t{generation} << 32 | id;
  return epoll_ctl(epoll_.get(), again ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, static_cast<int>(id),
                   &event) == 0;
}

ParkOps::Peek Parking::peek(SocketId id) {
  char byte = 0;
  const ssize_t n = recv(static_cast<int>(id), &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT);
  if (n > 0) return Peek::kBytes;
  const bool nothing =
      n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOMEM || errno == ENOBUFS);
  return nothing ? Peek::kNothing : Peek::kClosed;
}

ParkOps::SendBack Parking::send_back(SocketId id, AddressId to, const Return& back) {
  return addresses_.send(to, static_cast<int>(id), back);
}

// Before the descriptor is anybody else's: epoll watches the open file, which httpd has too.
void Parking::forget(SocketId id) const {
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
        static_cast<std::uint32_t>(std::ranges::find(ids, carried.address) - ids.begin());
  }
  return luggage;
}

void Parking::carry_in(const std::vector<CarriedParking>& states, std::vector<UniqueFd> sockets,
                       std::vector<UniqueFd> addresses, std::uint64_t now_ns) {
  // Each held once while they are counted: the first user of an address brings its descriptor.
  std::vector<std::optional<AddressId>> ids;
  ids.reserve(addresses.size());
  for (UniqueFd& fd : addresses) ids.push_back(fd ? addresses_.adopt(fd) : std::nullopt);
  std::vector<Parked::Carried> parked;
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    const CarriedParking& state = states[i];
    SocketId id = 0;
    if (!sockets[i] || state.address >= ids.size() || !ids[state.address]) continue;
    if (!KernelSockets::adopt(sockets[i], id)) continue;
    addresses_.use_again(*ids[state.address]);
    parked.push_back({id, *ids[state.address], state});
  }
  for (const auto& id : ids) {
    if (id) addresses_.release(*id);
  }
  parked_.carry_in(std::move(parked), now_ns);
}

}  // namespace lingerd
