// SPDX-License-Identifier: Apache-2.0
// Parked connections and requests go to the next lingerd, and come from the one before.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "contract/counters.h"
#include "lingerd/core/awaited.h"
#include "lingerd/core/carry.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/parked.h"

namespace lingerd {

using enum DaemonCounter;

std::vector<Parked::Carried> Parked::carry_out() const {
  std::vector<Carried> out;
  out.reserve(held_);
  for (SocketId id = 0; id < slots_.size(); ++id) {
    const Slot& slot = slots_[id];
    if (slot.phase == Phase::kNone) continue;
    CarriedParking state;
    state.stay = slot.stay;
    state.over_tls = slot.over_tls ? 1 : 0;
    state.user = shares_.user(slot.place);
    if (slot.stay.is_requests()) {
      state.awaited = requests_.at(id).what;
      state.began = requests_.at(id).began;
    }
    if (const auto timeout = timeouts_.armed(id)) state.deadline_ms = timeout->deadline;
    out.push_back({id, slot.address, state});
  }
  return out;
}

void Parked::carry_in(std::vector<Carried> parked, std::uint64_t now_ns) {
  const std::uint64_t before = counters_[kParked];
  const std::uint64_t requests_before = counters_[kGathering];
  counters_[kParked] = counters_[kGathering] = counters_[kGatherMemory] = 0;
  // A list stays sorted if it is filled in the order of its deadlines.
  std::ranges::sort(parked, {}, [](const Carried& c) {
    return std::tuple(c.state.deadline_ms, c.state.stay.returning_since, c.id);
  });
  for (const auto& [id, address, state] : parked) {
    const Stay& stay = state.stay;
    Slot& slot = open_slot(id, address, state.user, stay);
    slot.over_tls = state.over_tls != 0;
    if (stay.is_requests()) carry_in_request(id, state);
    slot.stay.arrived = std::min(stay.arrived, to_millis(now_ns));
    if (stay.returning_since != 0) {
      line_up(id, now_ns);
      slot.stay.returning_since = std::min(stay.returning_since, to_millis(now_ns));
      // When the last one was taken isn't known: as if now.
      lines_.taken(address, to_millis(now_ns));
      continue;
    }
    if (stay.is_requests()) {
      timeouts_.arm(id, to_millis(now_ns), kLongLookMs, slot.place);
    } else {
      timeouts_.arm_again(id, {state.deadline_ms, stay.keepalive_ms}, slot.place);
    }
  }
  for (const auto& [id, address, state] : parked) {
    if (!ops_.watch(id, slots_[id].generation, ParkOps::Watch::kFirst) &&
        slots_[id].phase == Phase::kWaiting) {
      time_is_up(id, kParkExpired, now_ns);
    }
  }
  // One that didn't arrive has ended all the same.
  const auto requests = static_cast<std::uint64_t>(std::ranges::count_if(
      parked, [](const Carried& carried) { return carried.state.stay.is_requests(); }));
  const std::uint64_t idle = parked.size() - requests;
  counters_[kParkExpired] += before - std::min(before, idle);
  counters_[kGatherReturnFailed] += requests_before - std::min(requests_before, requests);
}

}  // namespace lingerd
