// SPDX-License-Identifier: Apache-2.0
#include "lingerd/succession/luggage.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "contract/defaults.h"
#include "contract/record.h"
#include "lingerd/core/lingerer.h"
#include "lingerd/io/intake.h"
#include "lingerd/io/parking.h"
#include "lingerd/io/sockets.h"

namespace lingerd {
namespace {

// Contents come in the order of the sockets that deliver them. One whose content is missing has
// nothing more to send.
void give_contents(std::vector<Lingerer::Carried>& sockets, std::vector<UniqueFd>& contents) {
  std::size_t at = 0;
  for (Lingerer::Carried& socket : sockets) {
    if (!socket.state.delivers()) continue;
    if (at < contents.size()) {
      socket.content = static_cast<SocketId>(contents[at++].release());
    } else {
      socket.state.content_left = 0;
    }
  }
}

std::vector<UniqueFd> take_front(std::vector<UniqueFd>& descriptors, std::size_t count) {
  const auto end = descriptors.begin() +
                   static_cast<std::ptrdiff_t>(std::min<std::size_t>(count, descriptors.size()));
  std::vector<UniqueFd> front(std::make_move_iterator(descriptors.begin()),
                              std::make_move_iterator(end));
  descriptors.erase(descriptors.begin(), end);
  return front;
}

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

// Parked connections and their ways back come first, then lingers, what they have to deliver, and
// peers.
Parcel pack_up(Loop& loop) {
  auto [counters, capacity, lingerer, parking, intake] = loop.holdings();
  settle(loop.holdings(), loop.now());
  CarriedState state;
  state.started_ns = loop.started_ns();
  state.counters = counters;
  Parking::Luggage parked = parking.carry_out();
  state.parked = std::move(parked.states);
  state.addresses = parked.addresses.size();
  std::vector<int> descriptors = std::move(parked.sockets);
  descriptors.insert(descriptors.end(), parked.addresses.begin(), parked.addresses.end());
  std::vector<int> contents;
  for (const auto& [id, socket, content] : lingerer.carry_out()) {
    state.sockets.push_back(socket);
    descriptors.push_back(static_cast<int>(id));
    if (socket.delivers()) contents.push_back(static_cast<int>(content));
  }
  descriptors.insert(descriptors.end(), contents.begin(), contents.end());
  const std::vector<int> peers = intake.descriptors();
  descriptors.insert(descriptors.end(), peers.begin(), peers.end());
  log::write(log::Level::kNotice, "handing over %zu sockets and %zu peers",
             state.sockets.size() + state.parked.size(), peers.size());
  return pack(encode(state), loop.settings().text, descriptors);
}

Luggage::Luggage(std::optional<Unpacked> unpacked) : came_(unpacked.has_value()) {
  if (!came_) return;
  result_ = decode(unpacked->state, monotonic_ns() / 1'000'000, state_);
  descriptors_ = std::move(unpacked->descriptors);
  // Which one is missing nobody knows: no state may be taken for another socket's.
  if (result_ != CarryResult::kOk || descriptors_.size() == unpacked->expected) return;
  log::write(log::Level::kWarning, "%zu of %llu descriptors have come with the start",
             descriptors_.size(), static_cast<unsigned long long>(unpacked->expected));
  result_ = CarryResult::kGarbage;
  state_ = {};
}

void Luggage::move_into(Loop& loop) {
  if (!came_) return;
  if (result_ != CarryResult::kOk) {
    log::write(log::Level::kWarning,
               "the sockets that came with the start have a state of %s: their time begins again",
               result_ == CarryResult::kOtherVersion ? "another version" : "an unknown kind");
  }
  auto [counters, capacity, lingerer, parking, intake] = loop.holdings();
  std::vector<UniqueFd> parked = take_front(descriptors_, state_.parked.size());
  std::vector<UniqueFd> addresses = take_front(descriptors_, state_.addresses);
  const std::size_t waiting = parked.size();
  std::vector<Lingerer::Carried> sockets;
  std::vector<UniqueFd> contents;
  for (UniqueFd& fd : descriptors_) {
    SocketId id = 0;
    if (KernelSockets::is_content(fd.get())) {
      contents.push_back(std::move(fd));
    } else if (!KernelSockets::adopt(fd, id)) {
      intake.readmit(std::move(fd), loop.now());
    } else if (sockets.size() < state_.sockets.size()) {
      sockets.push_back({id, state_.sockets[sockets.size()]});
    } else {
      unknown_.push_back(id);
    }
  }
  descriptors_.clear();
  give_contents(sockets, contents);
  const std::size_t count = waiting + sockets.size() + unknown_.size();
  go_on_from(state_.counters, counters);
  lingerer.carry_in(std::move(sockets), loop.now());
  parking.carry_in(state_.parked, std::move(parked), std::move(addresses), loop.now());
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
