// SPDX-License-Identifier: Apache-2.0
#include "lingerd/parked.h"

#include <algorithm>

namespace lingerd {
namespace {

using enum DaemonCounter;

// A full listen queue is tried again after 1, 2, 4 … ms.
constexpr std::uint32_t kFirstRetryMs = 1;
constexpr std::uint32_t kLongestRetryMs = 64;

constexpr MonoMillis to_millis(std::uint64_t ns) {
  return ns / 1'000'000;
}

}  // namespace

Parked::Slot& Parked::open_slot(SocketId id) {
  if (id >= slots_.size()) slots_.resize(std::size_t{id} + 1);
  Slot& slot = slots_[id];
  slot.generation = (slot.generation + 1) & 0x7fffffff;
  slot.phase = Phase::kWaiting;
  slot.retry_ms = 0;
  ++held_;
  ++counters_[kParked];
  return slot;
}

void Parked::arrive(SocketId id, AddressId address, const Handoff& handoff, std::uint64_t now_ns) {
  Slot& slot = open_slot(id);
  ++counters_[kParkedTotal];
  const MonoMillis now = to_millis(now_ns);
  slot.arrived = now;
  slot.keepalives = handoff.keepalives;
  slot.keepalive_ms = handoff.stall_ms;
  slot.idle_ms = handoff.idle_ms;
  slot.cap_ms = handoff.cap_ms;
  slot.address = address;
  // When the waiting began is the peer's word: not in the future. Rounded up: never too early.
  const MonoMillis earliest = now > slot.keepalive_ms ? now - slot.keepalive_ms : 0;
  const MonoMillis began = std::clamp(to_millis(handoff.handed_off_ns), earliest, now);
  timeouts_.arm(id, began + 1, slot.keepalive_ms);
  if (!ops_.watch(id, slot.generation, false)) time_is_up(id, kParkExpired, now_ns);
}

void Parked::ready(SocketId id, std::uint32_t generation, std::uint64_t now_ns) {
  if (id >= slots_.size() || slots_[id].generation != generation) return;
  if (slots_[id].phase != Phase::kWaiting) return;
  switch (ops_.peek(id)) {
    case ParkOps::Peek::kBytes: go_back(id, now_ns); break;
    case ParkOps::Peek::kClosed: leave(id, kParkClosedByClient, now_ns); break;
    case ParkOps::Peek::kNothing:
      if (!ops_.watch(id, generation, true)) time_is_up(id, kParkExpired, now_ns);
      break;
  }
}

void Parked::go_back(SocketId id, std::uint64_t now_ns) {
  const Slot& slot = slots_[id];
  const std::uint64_t stay_ms = to_millis(now_ns) - slot.arrived;
  const Return back{slot.keepalives, slot.keepalive_ms, stay_ms * 1'000'000};
  switch (ops_.send_back(id, slot.address, back)) {
    case ParkOps::SendBack::kSent: leave(id, kReturned, now_ns); break;
    case ParkOps::SendBack::kLater: try_again_later(id, now_ns); break;
    case ParkOps::SendBack::kGone: part(id, kReturnFailed, now_ns); break;
  }
}

void Parked::try_again_later(SocketId id, std::uint64_t now_ns) {
  Slot& slot = slots_[id];
  const MonoMillis now = to_millis(now_ns);
  if (slot.phase == Phase::kWaiting) {
    slot.phase = Phase::kReturning;
    slot.returning_since = now;
    timeouts_.disarm(id);
  }
  if (now - slot.returning_since >= kReturnLimitMs) {
    part(id, kReturnFailed, now_ns);
    return;
  }
  slot.retry_ms = slot.retry_ms == 0 ? kFirstRetryMs : std::min(slot.retry_ms * 2, kLongestRetryMs);
  retries_.arm(id, now, slot.retry_ms);
}

void Parked::expire(std::uint64_t now_ns, std::size_t budget) {
  const MonoMillis now = to_millis(now_ns);
  for (; budget > 0; --budget) {
    const std::optional<Due> due = retries_.next();
    if (!due || due->deadline > now) break;
    retries_.disarm(due->id);
    // Who has reset meanwhile doesn't want his answer.
    if (ops_.peek(due->id) == ParkOps::Peek::kClosed) {
      leave(due->id, kParkClosedByClient, now_ns);
    } else {
      go_back(due->id, now_ns);
    }
  }
  for (; budget > 0; --budget) {
    const std::optional<Due> due = timeouts_.next();
    if (!due || due->deadline > now) break;
    time_is_up(due->id, kParkExpired, now_ns);
  }
}

std::optional<MonoMillis> Parked::next_deadline() const {
  const std::optional<Due> timeout = timeouts_.next();
  const std::optional<Due> retry = retries_.next();
  if (!timeout && !retry) return std::nullopt;
  if (!timeout) return retry->deadline;
  return retry ? std::min(retry->deadline, timeout->deadline) : timeout->deadline;
}

// What has come by now still counts: a request at the last moment goes back.
void Parked::time_is_up(SocketId id, DaemonCounter how, std::uint64_t now_ns) {
  timeouts_.disarm(id);
  switch (ops_.peek(id)) {
    case ParkOps::Peek::kBytes: go_back(id, now_ns); break;
    case ParkOps::Peek::kClosed: leave(id, kParkClosedByClient, now_ns); break;
    case ParkOps::Peek::kNothing: part(id, how, now_ns); break;
  }
}

// The socket ends here: it is closed, or httpd's again.
void Parked::leave(SocketId id, DaemonCounter how, std::uint64_t now_ns) {
  Slot& slot = slots_[id];
  const std::uint64_t stay_ms = to_millis(now_ns) - slot.arrived;
  timeouts_.disarm(id);
  retries_.disarm(id);
  slot.phase = Phase::kNone;
  --held_;
  --counters_[kParked];
  ++counters_[how];
  counters_[kWorkerMillisFreed] += stay_ms;
  counters_[kParkMillisFreed] += stay_ms;
  ops_.release(slot.address);
  if (how != kParkExpired && how != kReturnFailed) ops_.close(id);
}

// Closed by us: like any other connection that httpd closes, it lingers.
void Parked::part(SocketId id, DaemonCounter how, std::uint64_t now_ns) {
  leave(id, how, now_ns);
  Handoff handoff;
  handoff.idle_ms = slots_[id].idle_ms;
  handoff.cap_ms = slots_[id].cap_ms;
  handoff.handed_off_ns = now_ns;
  ops_.linger(id, handoff, now_ns);
}

void Parked::shrink_to(std::size_t most, std::uint64_t now_ns) {
  while (held_ > most) {
    const std::optional<Due> due = timeouts_.next();
    const SocketId id = due ? due->id : retries_.next()->id;
    const bool waits = slots_[id].phase == Phase::kWaiting;
    if (waits && ops_.peek(id) == ParkOps::Peek::kBytes) {
      const std::size_t before = held_;
      go_back(id, now_ns);
      if (held_ < before || slots_[id].phase == Phase::kReturning) continue;
    }
    // No linger: that would take as much room.
    leave(id, waits ? kParkExpired : kReturnFailed, now_ns);
    ops_.close(id);
  }
}

void Parked::abandon(AddressId address, std::uint64_t now_ns) {
  for (SocketId id = 0; id < slots_.size(); ++id) {
    if (slots_[id].phase != Phase::kNone && slots_[id].address == address) {
      part(id, kReturnFailed, now_ns);
    }
  }
}

void Parked::end_all(std::uint64_t now_ns) {
  while (const std::optional<Due> due = timeouts_.next()) time_is_up(due->id, kParkExpired, now_ns);
}

std::vector<Parked::Carried> Parked::carry_out() const {
  std::vector<Carried> out;
  out.reserve(held_);
  for (SocketId id = 0; id < slots_.size(); ++id) {
    const Slot& slot = slots_[id];
    if (slot.phase == Phase::kNone) continue;
    CarriedParking state;
    state.arrived_ms = slot.arrived;
    if (const auto timeout = timeouts_.armed(id)) state.deadline_ms = timeout->deadline;
    state.returning_since_ms = slot.phase == Phase::kReturning ? slot.returning_since : 0;
    state.keepalives = slot.keepalives;
    state.keepalive_ms = slot.keepalive_ms;
    state.idle_ms = slot.idle_ms;
    state.cap_ms = slot.cap_ms;
    out.push_back({id, slot.address, state});
  }
  return out;
}

void Parked::carry_in(std::vector<Carried> parked, std::uint64_t now_ns) {
  const std::uint64_t before = counters_[kParked];
  counters_[kParked] = 0;
  // A list stays sorted if it is filled in the order of its deadlines.
  std::ranges::sort(parked, {}, [](const Carried& c) { return c.state.deadline_ms; });
  for (const auto& [id, address, state] : parked) {
    Slot& slot = open_slot(id);
    slot.arrived = std::min<MonoMillis>(state.arrived_ms, to_millis(now_ns));
    slot.keepalives = state.keepalives;
    slot.keepalive_ms = state.keepalive_ms;
    slot.idle_ms = state.idle_ms;
    slot.cap_ms = state.cap_ms;
    slot.address = address;
    if (state.returning_since_ms != 0) {
      slot.phase = Phase::kReturning;
      slot.returning_since = std::min<MonoMillis>(state.returning_since_ms, to_millis(now_ns));
      retries_.arm(id, to_millis(now_ns), kFirstRetryMs);
      continue;
    }
    timeouts_.arm(id, state.deadline_ms - state.keepalive_ms, state.keepalive_ms);
  }
  for (const auto& [id, address, state] : parked) {
    if (!ops_.watch(id, slots_[id].generation, false) && slots_[id].phase == Phase::kWaiting) {
      time_is_up(id, kParkExpired, now_ns);
    }
  }
  // One that didn't arrive has ended all the same.
  counters_[kParkExpired] += before - std::min<std::uint64_t>(before, parked.size());
}

}  // namespace lingerd
