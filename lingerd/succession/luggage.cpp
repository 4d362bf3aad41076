// SPDX-License-Identifier: Apache-2.0
#include "lingerd/succession/luggage.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "base/unix_socket.h"
#include "contract/defaults.h"
#include "contract/record.h"
#include "lingerd/core/lingerer.h"
#include "lingerd/io/closer.h"
#include "lingerd/io/intake.h"
#include "lingerd/io/parking.h"
#include "lingerd/io/sockets.h"

namespace lingerd {
namespace {

// Nothing is fresh, offered or at the guard any more, and no way back lost.
void settle(const Loop::Holdings& holds, std::uint64_t now_ns) {
  auto [counters, capacity, lingerer, parking, intake] = holds;
  parking.dismiss_guard(now_ns);
  // What the guard has sent home lies in queues still, and the successor wouldn't know.
  for (int round = 0; round < 2 && parking.guard_has_acted(); ++round) {
    for (const int peer : intake.descriptors()) (void)intake.receive(peer, 0, now_ns, true);
  }
  intake.settle_offers(now_ns);
  while (parking.end_lost_ways(now_ns)) intake.settle_ways_back(now_ns);
  lingerer.settle(now_ns);
}

}  // namespace

// Each as the state has it: the place that a descriptor belongs to stays empty if it is lost.
struct Luggage::Sorted {
  explicit Sorted(const CarriedState& state)
      : parked(state.parked.size()),
        addresses(state.addresses),
        sockets(state.sockets.size()),
        contents(static_cast<std::size_t>(
            std::ranges::count_if(state.sockets, &CarriedSocket::delivers))) {}

  std::vector<UniqueFd> parked;
  std::vector<UniqueFd> addresses;
  std::vector<UniqueFd> sockets;
  std::vector<UniqueFd> contents;
  std::vector<UniqueFd> peers;
  std::vector<UniqueFd> strays;  // of which the state says nothing

  void take(Unpacked::Item item) {
    if (item.role == Role::kPeer) return peers.push_back(std::move(item.fd));
    std::vector<UniqueFd>* const of_its_role = item.role == Role::kParked    ? &parked
                                               : item.role == Role::kAddress ? &addresses
                                               : item.role == Role::kSocket  ? &sockets
                                               : item.role == Role::kContent ? &contents
                                                                             : nullptr;
    if (of_its_role == nullptr || item.index >= of_its_role->size()) {
      return strays.push_back(std::move(item.fd));
    }
    (*of_its_role)[item.index] = std::move(item.fd);
  }

  // The lingers whose socket has come. One whose content is missing has nothing more to send.
  [[nodiscard]] std::vector<Lingerer::Carried> lingers(const CarriedState& state) {
    std::vector<Lingerer::Carried> out;
    std::size_t next_content = 0;
    for (std::size_t i = 0; i < sockets.size(); ++i) {
      const bool delivers = state.sockets[i].delivers();
      UniqueFd content = delivers ? std::move(contents[next_content++]) : UniqueFd();
      Lingerer::Carried carried{.id = 0, .state = state.sockets[i]};
      if (!sockets[i] || !KernelSockets::adopt(sockets[i], carried.id)) {
        closer().take(std::move(content), Closer::kOwn);
        continue;
      }
      if (delivers && !content) carried.state.delivery.content.left = 0;
      if (content) carried.state.delivery.content.id = static_cast<SocketId>(content.release());
      out.push_back(carried);
    }
    return out;
  }
};

Parcel pack_up(Loop& loop) {
  auto [counters, capacity, lingerer, parking, intake] = loop.holdings();
  settle(loop.holdings(), loop.now());
  CarriedState state;
  state.started_ns = loop.started_ns();
  state.counters = counters;
  Parking::Luggage parked = parking.carry_out();
  state.parked = std::move(parked.states);
  state.addresses = parked.addresses.size();
  Descriptors sockets{.role = Role::kSocket, .in_order = {}};
  Descriptors contents{.role = Role::kContent, .in_order = {}};
  for (const auto& [id, socket] : lingerer.carry_out()) {
    state.sockets.push_back(socket);
    sockets.in_order.push_back(static_cast<int>(id));
    if (socket.delivers())
      contents.in_order.push_back(static_cast<int>(socket.delivery.content.id));
  }
  const std::array all{Descriptors{.role = Role::kParked, .in_order = std::move(parked.sockets)},
                       Descriptors{.role = Role::kAddress, .in_order = std::move(parked.addresses)},
                       std::move(sockets), std::move(contents),
                       Descriptors{.role = Role::kPeer, .in_order = intake.descriptors()}};
  log::write(log::Level::kNotice, "handing over %zu sockets and %zu peers",
             state.sockets.size() + state.parked.size(), intake.peers());
  return pack(encode(state), loop.settings().text, all);
}

Luggage::Luggage(std::optional<Unpacked> unpacked) : came_(unpacked.has_value()) {
  if (!came_) return;
  result_ = decode(unpacked->state, monotonic_ns() / 1'000'000, state_);
  items_ = std::move(unpacked->items);
  if (items_.size() == unpacked->expected) return;
  log::write(log::Level::kWarning,
             "%zu of %llu descriptors have come with the start: the connections of the others end",
             items_.size(), static_cast<unsigned long long>(unpacked->expected));
}

void Luggage::sort_into(Sorted& sorted) {
  const bool are_known = result_ == CarryResult::kOk;
  for (Unpacked::Item& item : std::exchange(items_, {})) {
    if (!are_known) item.role = Role::kUnknown;
    sorted.take(std::move(item));
  }
}

// What each of them is has to be asked of it. How many are sockets that will linger.
std::size_t Luggage::examine(std::vector<UniqueFd> strays, Loop& loop) {
  const std::size_t before = unknown_.size();
  for (UniqueFd& fd : strays) {
    SocketId id = 0;
    if (KernelSockets::adopt(fd, id)) {
      unknown_.push_back(id);
    } else if (peer_of(fd.get())) {
      loop.holdings().intake.readmit(std::move(fd), loop.now());
    } else {  // a content, a way back
      closer().take(std::move(fd), Closer::kOwn);
    }
  }
  return unknown_.size() - before;
}

void Luggage::move_into(Loop& loop) {
  if (!came_) return;
  if (result_ != CarryResult::kOk) {
    log::write(log::Level::kWarning,
               "the sockets that came with the start have a state of %s: their time begins again",
               result_ == CarryResult::kOtherVersion ? "another version" : "an unknown kind");
  }
  auto [counters, capacity, lingerer, parking, intake] = loop.holdings();
  Sorted sorted(state_);
  sort_into(sorted);
  for (UniqueFd& peer : sorted.peers) intake.readmit(std::move(peer), loop.now());
  std::size_t count = examine(std::move(sorted.strays), loop);
  std::vector<Lingerer::Carried> lingers = sorted.lingers(state_);
  count += lingers.size();
  go_on_from(state_.counters, counters);
  lingerer.carry_in(std::move(lingers), loop.now());
  count += parking.carry_in(state_.parked, sorted.parked, std::move(sorted.addresses), loop.now());
  // Without a way back.
  std::erase_if(sorted.parked, [](const UniqueFd& fd) { return !fd; });
  count += examine(std::move(sorted.parked), loop);
  capacity.make_room(0, loop.now());  // this one's limit may be lower
  loop.publish();                     // a reader of this line finds them on the page
  log::write(log::Level::kNotice, "took over %zu sockets and %zu peers", count, intake.peers());
}

void Luggage::settle(Loop& loop) {
  // As if handed off now: a hand-off at time 0 would be over its cap.
  const Handoff now{
      .idle_ms = kDefaultIdleMs, .cap_ms = kDefaultCapMs, .handed_off_ns = loop.now()};
  for (const SocketId id : std::exchange(unknown_, {})) {
    shutdown(static_cast<int>(id), SHUT_WR);
    loop.holdings().lingerer.arrive(id, now, loop.now(), true);
  }
}

}  // namespace lingerd
