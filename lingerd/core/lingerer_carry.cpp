// SPDX-License-Identifier: Apache-2.0
// Lingers go to the next lingerd, and come from the one before.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "contract/counters.h"
#include "lingerd/core/carry.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/lingerer.h"

namespace lingerd {

using enum DaemonCounter;

std::vector<Lingerer::Carried> Lingerer::carry_out() {
  std::vector<Carried> out;
  out.reserve(held_);
  for (SocketId id = 0; id < slots_.size(); ++id) {
    const Slot& slot = slots_[id];
    if (slot.phase != Phase::kWatched && slot.phase != Phase::kDelivering) continue;
    CarriedSocket socket;
    socket.linger = slot.linger;
    socket.user = shares_.user(slot.place);
    if (slot.phase == Phase::kDelivering) {
      deliveries_.carry_out(id, socket);
    } else {
      socket.cap = cap_.armed(id).value_or(Clock{});
      socket.idle = idle_.armed(id).value_or(Clock{});
    }
    out.push_back({id, socket});
  }
  return out;
}

void Lingerer::carry_in(std::vector<Carried> sockets, std::uint64_t now_ns) {
  // A socket that didn't arrive has ended all the same.
  const std::uint64_t before = counters_[kQueue];
  counters_[kEvicted] += before - std::min<std::uint64_t>(before, sockets.size());
  counters_[kQueue] = counters_[kOffloadPending] = counters_[kOffloadMemory] = 0;
  counters_[kOffers] = 0;
  const std::uint64_t under_way = deliveries_under_way(counters_);
  for (const Carried& carried : sockets) carry_in_one(carried, now_ns);
  // Nor has a delivery without its socket or its content been made.
  counters_[kDeliveryAborted] += under_way - std::min<std::uint64_t>(under_way, deliveries_.size());
  arm_carried(sockets);
  for (const Carried& carried : sockets) {
    const bool watched = carried.state.delivers()
                             ? deliveries_.watch_resumed(carried.id)
                             : ops_.watch(carried.id, slots_[carried.id].generation);
    // A delivery whose content got lost has sent no FIN, and never will.
    const bool cut_off = !carried.state.delivers() && carried.state.delivery.idle_ms != 0;
    if (!watched || cut_off) give_up(carried.id, kEvicted, now_ns);
  }
}

// A list stays sorted if it is filled in the order of its deadlines.
void Lingerer::arm_carried(std::vector<Carried>& sockets) {
  std::ranges::sort(sockets, {}, [](const Carried& c) { return c.state.cap.deadline; });
  for (const auto& [id, socket] : sockets) {
    if (socket.delivers()) {
      deliveries_.resume_window(id, socket);
    } else {
      cap_.arm_again(id, socket.cap, slots_[id].place);
    }
  }
  std::ranges::sort(sockets, {}, [](const Carried& c) { return c.state.idle.deadline; });
  for (const auto& [id, socket] : sockets) {
    if (socket.delivers()) {
      deliveries_.resume_stall(id, socket);
    } else {
      idle_.arm_again(id, socket.idle, slots_[id].place);
    }
  }
}

void Lingerer::carry_in_one(const Carried& carried, std::uint64_t now_ns) {
  const CarriedSocket& socket = carried.state;
  if (carried.id >= slots_.size()) slots_.resize(std::size_t{carried.id} + 1);
  Slot& slot = slots_[carried.id];
  slot.linger = socket.linger;
  slot.linger.started = std::min(slot.linger.started, to_millis(now_ns));
  slot.generation = 1;
  slot.phase = Phase::kWatched;
  slot.place = shares_.add(socket.user, Shares::Kind::kLinger);
  ++held_;
  ++counters_[kQueue];
  if (!socket.delivers()) return;
  now_delivers(slot);
  deliveries_.resume(carried.id, slot.generation, socket.delivery);
}

}  // namespace lingerd
