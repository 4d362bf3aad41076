// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/parked.h"

#include <algorithm>

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
  slot.over_tls = handoff.over_tls;
  const bool requests = slot.stay.is_requests();
  ++counters_[requests ? kGatherTotal : kParkedTotal];
  if (requests) return await(id, handoff, now_ns);
  const std::uint32_t keepalive_ms = slot.stay.keepalive_ms;
  // When the waiting began is the peer's word: not in the future. Rounded up: never too early.
  const MonoMillis earliest = now > keepalive_ms ? now - keepalive_ms : 0;
  const MonoMillis began = std::clamp(to_millis(handoff.handed_off_ns), earliest, now);
  timeouts_.arm(id, began + 1, keepalive_ms, slot.place);
  if (!ops_.watch(id, slot.generation, ParkOps::Watch::kFirst)) {
    time_is_up(id, kParkExpired, now_ns);
  }
}

void Parked::ready(SocketId id, std::uint32_t generation, std::uint64_t now_ns) {
  if (id >= slots_.size() || slots_[id].generation != generation) return;
  if (slots_[id].phase != Phase::kWaiting) return;
  if (slots_[id].stay.is_requests()) return look_at(id, true, now_ns);
  const ParkOps::Peek seen = peek(id);
  if (seen == ParkOps::Peek::kGoodbye) return wait_for_fin(id, now_ns);
  if (seen != ParkOps::Peek::kNothing && !ops_.claim(id)) return leave(id, kReturned, now_ns);
  switch (seen) {
    case ParkOps::Peek::kBytes: go_back(id, now_ns); break;
    case ParkOps::Peek::kClosed: leave(id, kParkClosedByClient, now_ns); break;
    case ParkOps::Peek::kNothing:
      if (!ops_.watch(id, generation, ParkOps::Watch::kAgain)) {
        time_is_up(id, kParkExpired, now_ns);
      }
      break;
    case ParkOps::Peek::kGoodbye: break;  // see above
  }
}

void Parked::wait_for_fin(SocketId id, std::uint64_t now_ns) {
  const Slot& slot = slots_[id];
  const MonoMillis until = to_millis(now_ns) + kFinWaitMs;
  const auto timeout = timeouts_.armed(id);
  if (!timeout || timeout->deadline > until) {
    timeouts_.arm(id, to_millis(now_ns), kFinWaitMs, slot.place);
  }
  if (!ops_.watch(id, slot.generation, ParkOps::Watch::kForFin)) {
    time_is_up(id, kParkExpired, now_ns);
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
  if (peek(id) == ParkOps::Peek::kClosed) {
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
  switch (peek(id)) {
    case ParkOps::Peek::kBytes:
    case ParkOps::Peek::kGoodbye: go_back(id, now_ns); break;
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
    if (waits && (slots_[id].stay.is_requests() || peek(id) == ParkOps::Peek::kBytes)) {
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

}  // namespace lingerd
