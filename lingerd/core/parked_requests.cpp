// SPDX-License-Identifier: Apache-2.0
// Requests that are still coming: looked at, waited for, given back.
#include <algorithm>
#include <cstdint>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/awaited.h"
#include "lingerd/core/carry.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/parked.h"

namespace lingerd {

using enum DaemonCounter;

void Parked::await(SocketId id, const Handoff& handoff, std::uint64_t now_ns) {
  const MonoMillis now = to_millis(now_ns);
  Awaited& awaited = requests_[id];
  awaited = {};
  awaited.what = handoff.awaited;
  awaited.timeout_ms = handoff.stall_ms;
  // When the waiting began is the peer's word: not in the future, nor before it can have been.
  const MonoMillis earliest = now > awaited.timeout_ms ? now - awaited.timeout_ms : 0;
  awaited.began = std::clamp(to_millis(handoff.handed_off_ns), earliest, now);
  look_at(id, false, now_ns);
}

// `again`: it is known to the kernel already.
void Parked::look_at(SocketId id, bool again, std::uint64_t now_ns) {
  Awaited& awaited = requests_.at(id);
  const MonoMillis now = to_millis(now_ns);
  if (again && awaited.may_wait(now) && now < awaited.deadline()) {
    timeouts_.arm(id, now, kLongLookMs, slots_[id].place);
    return;  // it isn't reported before that look
  }
  const std::uint64_t before = awaited.bytes;
  const Judgement judgement = judge(awaited, ops_.look(id, awaited.front_wanted()), now);
  const bool fits = weigh(id, before);
  switch (judgement) {
    case Judgement::kMore:
      if (fits) return await_more(id, again, now_ns);
      return give_back(id, Outcome::kEarly, now_ns);
    case Judgement::kCame: return give_back(id, Outcome::kCame, now_ns);
    case Judgement::kTimedOut: return give_back(id, Outcome::kTimedOut, now_ns);
    case Judgement::kTooMuch: return give_back(id, Outcome::kEarly, now_ns);
    case Judgement::kClosed: break;
  }
  leave(id, ops_.claim(id) ? kParkClosedByClient : kReturned, now_ns);
}

void Parked::await_more(SocketId id, bool again, std::uint64_t now_ns) {
  const Awaited& awaited = requests_.at(id);
  const MonoMillis now = to_millis(now_ns);
  const auto look = timeouts_.armed(id);
  // Each only once: one that is armed again goes behind all others of its list.
  const bool has_deadline = look && look->deadline >= awaited.deadline();
  if (!again && !awaited.is_body()) {
    timeouts_.arm(id, awaited.began + 1, awaited.timeout_ms, slots_[id].place);
  } else if (awaited.is_body() || !has_deadline) {
    timeouts_.arm(id, now, awaited.next_look_ms(now), slots_[id].place);
  }
  ops_.await(id, awaited.at_least);
  const ParkOps::Watch how = again ? ParkOps::Watch::kAgain : ParkOps::Watch::kFirst;
  if (!ops_.watch(id, slots_[id].generation, how)) give_back(id, Outcome::kEarly, now_ns);
}

void Parked::give_back(SocketId id, Outcome outcome, std::uint64_t now_ns) {
  timeouts_.disarm(id);
  if (!ops_.claim(id)) return leave(id, kReturned, now_ns);
  slots_[id].stay.outcome = outcome;
  go_back(id, now_ns);
}

// False: with it there is more than may be. Heads take what every connection may.
bool Parked::weigh(SocketId id, std::uint64_t bytes_before) {
  const Awaited& awaited = requests_.at(id);
  if (!awaited.is_body()) return true;
  counters_[kGatherMemory] += awaited.bytes - bytes_before;
  return counters_[kGatherMemory] <= counters_[kGatherMemoryLimit];
}

void Parked::forget_request(SocketId id) {
  const Awaited& awaited = requests_.at(id);
  if (awaited.is_body()) counters_[kGatherMemory] -= awaited.bytes;
  ops_.await(id, 1);
  requests_.erase(id);
}

// As parking calls it, and as it is called for a request.
DaemonCounter Parked::end_of_request(SocketId id, DaemonCounter how) const {
  if (how == kParkClosedByClient) return kGatherClosedByClient;
  if (how != kReturned) return kGatherReturnFailed;
  switch (slots_[id].stay.outcome) {
    case Outcome::kCame: return kGathered;
    case Outcome::kTimedOut: return kGatherTimedOut;
    case Outcome::kEarly: break;
  }
  return kGatherEarly;
}

void Parked::carry_in_request(SocketId id, const CarriedParking& state) {
  Awaited& awaited = requests_[id];
  awaited = {};
  awaited.what = state.awaited;
  awaited.timeout_ms = state.stay.keepalive_ms;
  awaited.began = state.began;
}

}  // namespace lingerd
