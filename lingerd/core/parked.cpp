// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/parked.h"

#include <algorithm>
#include <tuple>

namespace lingerd {
namespace {

using enum DaemonCounter;

}  // namespace

Parked::Slot& Parked::open_slot(SocketId id, AddressId address, Shares::User user,
                                const Stay& stay) {
  if (id >= slots_.size()) slots_.resize(std::size_t{id} + 1);
  Slot& slot = slots_[id];
  slot.generation = (slot.generation + 1) & 0x7fffffff;
  slot.phase = Phase::kWaiting;
  slot.address = address;
  slot.place = shares_.add(user, Shares::Kind::kParked);
  lines_.wait(address, id);
  slot.stay = stay;
  ++held_;
  ++counters_[stay.is_requests() ? kGathering : kParked];
  return slot;
}

void Parked::arrive(SocketId id, AddressId address, const Handoff& handoff, std::uint64_t now_ns) {
  const MonoMillis now = to_millis(now_ns);
  Slot& slot = open_slot(id, address, handoff.user, Stay::of(handoff, now));
  const bool requests = slot.stay.is_requests();
  ++counters_[requests ? kGatherTotal : kParkedTotal];
  if (requests) return await(id, handoff, now_ns);
  const std::uint32_t keepalive_ms = slot.stay.keepalive_ms;
  // When the waiting began is the peer's word: not in the future. Rounded up: never too early.
  const MonoMillis earliest = now > keepalive_ms ? now - keepalive_ms : 0;
  const MonoMillis began = std::clamp(to_millis(handoff.handed_off_ns), earliest, now);
  timeouts_.arm(id, began + 1, keepalive_ms, slot.place);
  if (!ops_.watch(id, slot.generation, false)) time_is_up(id, kParkExpired, now_ns);
}

void Parked::ready(SocketId id, std::uint32_t generation, std::uint64_t now_ns) {
  if (id >= slots_.size() || slots_[id].generation != generation) return;
  if (slots_[id].phase != Phase::kWaiting) return;
  if (slots_[id].stay.is_requests()) return look_at(id, true, now_ns);
  const ParkOps::Peek peek = ops_.peek(id);
  if (peek != ParkOps::Peek::kNothing && !ops_.claim(id)) return leave(id, kReturned, now_ns);
  switch (peek) {
    case ParkOps::Peek::kBytes: go_back(id, now_ns); break;
    case ParkOps::Peek::kClosed: leave(id, kParkClosedByClient, now_ns); break;
    case ParkOps::Peek::kNothing:
      if (!ops_.watch(id, generation, true)) time_is_up(id, kParkExpired, now_ns);
      break;
  }
}

ParkOps::SendBack Parked::send_back(SocketId id, std::uint64_t now_ns) {
  const Slot& slot = slots_[id];
  return ops_.send_back(id, slot.address, slot.stay.back(to_millis(now_ns)));
}

// It has a request. At once, unless others wait already for their turn.
void Parked::go_back(SocketId id, std::uint64_t now_ns) {
  const AddressId address = slots_[id].address;
  if (lines_.first(address)) return line_up(id, now_ns);
  switch (send_back(id, now_ns)) {
    case ParkOps::SendBack::kSent:
      lines_.taken(address, to_millis(now_ns));
      leave(id, kReturned, now_ns);
      break;
    case ParkOps::SendBack::kLater:
      line_up(id, now_ns);
      lines_.refused(address, to_millis(now_ns));
      break;
    case ParkOps::SendBack::kGone: part(id, kReturnFailed, now_ns); break;
  }
}

void Parked::line_up(SocketId id, std::uint64_t now_ns) {
  Slot& slot = slots_[id];
  slot.phase = Phase::kReturning;
  slot.stay.returning_since = to_millis(now_ns);
  timeouts_.disarm(id);
  lines_.leave(id);
  lines_.line_up(slot.address, id);
  ops_.give_up(id);
}

void Parked::move_first(AddressId address, std::uint64_t now_ns) {
  const SocketId id = *lines_.first(address);
  const MonoMillis now = to_millis(now_ns);
  if (!ops_.claim(id)) return leave(id, kReturned, now_ns);
  // A client that has reset meanwhile doesn't want its answer.
  if (ops_.peek(id) == ParkOps::Peek::kClosed) {
    leave(id, kParkClosedByClient, now_ns);
    return;
  }
  switch (send_back(id, now_ns)) {
    case ParkOps::SendBack::kSent:
      lines_.taken(address, now);
      leave(id, kReturned, now_ns);
      return;
    case ParkOps::SendBack::kGone: part(id, kReturnFailed, now_ns); return;
    case ParkOps::SendBack::kLater: break;
  }
  const MonoMillis moved = std::max(lines_.last_taken(address), slots_[id].stay.returning_since);
  if (now - moved >= kReturnLimitMs) {
    part(id, kReturnFailed, now_ns);
    return;
  }
  lines_.refused(address, now);
  ops_.give_up(id);
}

// One of each line in turn, so that a long one doesn't hold up the others.
void Parked::move_lines(std::uint64_t now_ns) {
  const MonoMillis now = to_millis(now_ns);
  for (std::size_t budget = kReturnsAtOnce; budget > 0; --budget) {
    const std::optional<AddressId> address = lines_.due_after(served_last_, now);
    if (!address) return;
    served_last_ = *address;
    move_first(*address, now_ns);
  }
}

void Parked::expire(std::uint64_t now_ns, std::size_t budget) {
  const MonoMillis now = to_millis(now_ns);
  for (; budget > 0; --budget) {
    const std::optional<Due> due = timeouts_.next();
    if (!due || due->deadline > now) break;
    time_is_up(due->id, kParkExpired, now_ns);
  }
  move_lines(now_ns);
}

std::optional<MonoMillis> Parked::next_deadline() const {
  const std::optional<Due> timeout = timeouts_.next();
  const std::optional<MonoMillis> retry = lines_.next_retry();
  if (!timeout) return retry;
  return retry ? std::min(*retry, timeout->deadline) : timeout->deadline;
}

// What has come by now still counts: a request at the last moment goes back.
void Parked::time_is_up(SocketId id, DaemonCounter how, std::uint64_t now_ns) {
  if (slots_[id].stay.is_requests()) return look_at(id, true, now_ns);
  timeouts_.disarm(id);
  if (!ops_.claim(id)) return leave(id, kReturned, now_ns);
  switch (ops_.peek(id)) {
    case ParkOps::Peek::kBytes: go_back(id, now_ns); break;
    case ParkOps::Peek::kClosed: leave(id, kParkClosedByClient, now_ns); break;
    case ParkOps::Peek::kNothing: part(id, how, now_ns); break;
  }
}

// The socket ends here: it is closed, or httpd's again.
void Parked::leave(SocketId id, DaemonCounter how, std::uint64_t now_ns) {
  Slot& slot = slots_[id];
  const std::uint64_t stay_ms = to_millis(now_ns) - slot.stay.arrived;
  timeouts_.disarm(id);
  lines_.leave(id);
  slot.phase = Phase::kNone;
  shares_.remove(slot.place, Shares::Kind::kParked);
  --held_;
  const bool requests = slot.stay.is_requests();
  --counters_[requests ? kGathering : kParked];
  ++counters_[requests ? end_of_request(id, how) : how];
  counters_[kWorkerMillisFreed] += stay_ms;
  counters_[requests ? kGatherMillisFreed : kParkMillisFreed] += stay_ms;
  if (requests) forget_request(id);
  ops_.release(slot.address);
  if (how != kParkExpired && how != kReturnFailed) ops_.close(id);
}

// Closed by us: like any other connection that httpd closes, it lingers.
void Parked::part(SocketId id, DaemonCounter how, std::uint64_t now_ns) {
  Handoff handoff;
  handoff.user = shares_.user(slots_[id].place);
  leave(id, how, now_ns);
  handoff.idle_ms = slots_[id].stay.idle_ms;
  handoff.cap_ms = slots_[id].stay.cap_ms;
  handoff.handed_off_ns = now_ns;
  ops_.linger(id, handoff, now_ns);
}

void Parked::end_one_of(const Shares::Choice& user, std::uint64_t now_ns) {
  for (const std::size_t before = held_; held_ == before;) {
    const std::optional<Due> due = timeouts_.next_of(user.place);
    const SocketId id = due ? due->id : *lines_.last_of_any([&](SocketId waits) {
      return slots_[waits].place == user.place;
    });
    const bool waits = slots_[id].phase == Phase::kWaiting;
    if (!ops_.claim(id)) return leave(id, kReturned, now_ns);
    if (waits && (slots_[id].stay.is_requests() || ops_.peek(id) == ParkOps::Peek::kBytes)) {
      go_back(id, now_ns);
      if (held_ < before || slots_[id].phase == Phase::kReturning) continue;
    }
    // No linger: that would take as much room.
    if (user.is_over) ++counters_[kOverShare];
    leave(id, waits ? kParkExpired : kReturnFailed, now_ns);
    ops_.close(id);
  }
}

void Parked::abandon(AddressId address, std::uint64_t now_ns) {
  while (const std::optional<SocketId> id = lines_.any(address)) {
    if (ops_.claim(*id)) {
      part(*id, kReturnFailed, now_ns);
    } else {
      leave(*id, kReturned, now_ns);
    }
  }
}

void Parked::end_all(std::uint64_t now_ns) {
  while (const std::optional<Due> due = timeouts_.next()) {
    if (slots_[due->id].stay.is_requests()) {
      give_back(due->id, Outcome::kEarly, now_ns);
    } else {
      time_is_up(due->id, kParkExpired, now_ns);
    }
  }
}

std::vector<Parked::Carried> Parked::carry_out() const {
  std::vector<Carried> out;
  out.reserve(held_);
  for (SocketId id = 0; id < slots_.size(); ++id) {
    const Slot& slot = slots_[id];
    if (slot.phase == Phase::kNone) continue;
    CarriedParking state;
    state.stay = slot.stay;
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
    if (!ops_.watch(id, slots_[id].generation, false) && slots_[id].phase == Phase::kWaiting) {
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
