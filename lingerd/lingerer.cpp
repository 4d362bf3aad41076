// SPDX-License-Identifier: Apache-2.0
#include "lingerd/lingerer.h"

#include <algorithm>
#include <limits>

namespace lingerd {
namespace {

using enum DaemonCounter;

constexpr std::uint64_t kNanosPerMilli = 1'000'000;

// Numbers go higher than the sockets that linger: other descriptors lie between them.
constexpr std::size_t kIdsBeyondSockets = 16'384;

constexpr MonoMillis to_millis(std::uint64_t ns) {
  return ns / kNanosPerMilli;
}

}  // namespace

Lingerer::Lingerer(SocketOps& ops, std::uint32_t max_connections, std::uint32_t max_time_ms)
    : ops_(ops),
      max_connections_(max_connections),
      max_time_ms_(max_time_ms),
      idle_(max_connections + kIdsBeyondSockets),
      cap_(max_connections + kIdsBeyondSockets),
      stall_(max_connections + kIdsBeyondSockets),
      rate_(max_connections + kIdsBeyondSockets) {
  slots_.reserve(max_connections + kIdsBeyondSockets);
  counters_[kQueueLimit] = max_connections;
}

Lingerer::Slot& Lingerer::open_slot(SocketId id, const Handoff& handoff, std::uint64_t now_ns) {
  make_room(handoff.kind == RecordKind::kDeliver ? 2 : 1, now_ns);
  if (id >= slots_.size()) slots_.resize(std::size_t{id} + 1);
  Slot& slot = slots_[id];
  // The hand-off's time is the peer's word: not in the future, and no older than a linger can be.
  const MonoMillis now = to_millis(now_ns);
  const MonoMillis earliest = now > max_time_ms_ ? now - max_time_ms_ : 0;
  slot.started = std::clamp(to_millis(handoff.handed_off_ns), earliest, now);
  slot.generation = (slot.generation + 1) & 0x7fffffff;
  slot.patience = {.idle_ms = std::min(handoff.idle_ms, max_time_ms_)};
  slot.phase = Phase::kFresh;
  slot.rescued = false;
  ++held_;
  return slot;
}

void Lingerer::arrive(SocketId id, const Handoff& handoff, std::uint64_t now_ns, bool quick) {
  const Slot& slot = open_slot(id, handoff, now_ns);
  cap_.arm(id, slot.started, std::min(handoff.cap_ms, max_time_ms_));
  if (quick) {
    settle_one(id, now_ns);
  } else {
    fresh_.push_back(id);
  }
}

void Lingerer::arrive_with(SocketId id, const Content& content, const Handoff& handoff,
                           std::uint64_t now_ns) {
  Slot& slot = open_slot(id, handoff, now_ns);
  deliveries_.begin(id, content, handoff);
  slot.patience = {.idle_ms = handoff.stall_ms};
  rate_.arm(id, to_millis(now_ns), kRateWindowMs);
  if (!ops_.watch_writable(id, slot.generation)) {
    break_off(id, kDeliveryAborted, kEvicted, now_ns);
    return;
  }
  slot.phase = Phase::kDelivering;
  enter_queue();
  note_unsent(id);
  arm_stall(id, now_ns);
  push(id, now_ns);
}

bool Lingerer::set_aside(std::uint64_t memory, std::uint64_t now_ns) {
  const std::uint64_t taken = counters_[kOffloadMemory];
  const std::uint64_t limit = counters_[kOffloadMemoryLimit];
  const bool fits = memory == 0 || (taken <= limit && memory <= limit - taken);
  if (!fits || !has_room_for_delivery(deliveries_.size() + set_aside_, max_connections_)) {
    ++counters_[kOffloadsRefused];
    return false;
  }
  make_room(2, now_ns);
  ++set_aside_;
  counters_[kOffloadMemory] += memory;
  return true;
}

void Lingerer::give_back(std::uint64_t memory) {
  --set_aside_;
  counters_[kOffloadMemory] -= memory;
}

void Lingerer::push(SocketId id, std::uint64_t now_ns) {
  Delivery& delivery = *deliveries_.find(id);
  const PushResult pushed = ops_.push(id, delivery.content);
  if (pushed.bytes > 0) {
    deliveries_.moved(delivery, pushed.bytes);
    note_unsent(id);
    note_bytes(slots_[id].patience);
    arm_stall(id, now_ns);
  }
  if (delivery.content.left == 0) {
    delivered(id, now_ns);
  } else if (pushed.state == PushResult::State::kReset ||
             pushed.state == PushResult::State::kCutShort) {
    break_off(id, kDeliveryAborted, kClosedByReset, now_ns);
  }
}

// The response is the kernel's: now its linger begins.
void Lingerer::delivered(SocketId id, std::uint64_t now_ns) {
  const Delivery delivery = *deliveries_.find(id);
  deliveries_.end(id, kDelivered);
  ops_.close_content(delivery.content.id);
  ops_.send_fin(id);
  stall_.disarm(id);
  rate_.disarm(id);
  Slot& slot = slots_[id];
  counters_[kWorkerMillisFreed] += to_millis(now_ns) - slot.started;
  slot.started = to_millis(now_ns);
  slot.phase = Phase::kWatched;
  slot.patience = {.idle_ms = std::min(delivery.idle_ms, max_time_ms_)};
  ops_.watch_readable_again(id, slot.generation);
  cap_.arm(id, to_millis(now_ns), std::min(delivery.cap_ms, max_time_ms_));
  note_unsent(id);
  arm_idle(id, now_ns);
  look(id, now_ns);
}

void Lingerer::break_off(SocketId id, DaemonCounter why, DaemonCounter how, std::uint64_t now_ns) {
  const SocketId content = deliveries_.find(id)->content.id;
  deliveries_.end(id, why);
  ops_.close_content(content);
  end(id, how, now_ns);
}

// Either nothing has moved for a while, or a window of the minimum rate is over.
void Lingerer::delivery_time_is_up(SocketId id, std::uint64_t now_ns, bool window) {
  if (window) {
    if (deliveries_.fast_enough(*deliveries_.find(id))) {
      rate_.arm(id, to_millis(now_ns), kRateWindowMs);
      return;
    }
  } else if (judge_silence(slots_[id].patience, ops_.unsent(id)) == IdleVerdict::kWait) {
    arm_stall(id, now_ns);
    return;
  }
  break_off(id, kDeliveryTimedOut, kClosedIdle, now_ns);
}

void Lingerer::enter_queue() {
  ++counters_[kTotal];
  ++counters_[kQueue];
  counters_[kQueuePeak] = std::max(counters_[kQueuePeak], counters_[kQueue]);
}

void Lingerer::note_unsent(SocketId id) {
  slots_[id].patience.unsent = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(ops_.unsent(id), std::numeric_limits<std::uint32_t>::max()));
}

void Lingerer::settle(std::uint64_t now_ns) {
  for (const SocketId id : fresh_) {
    // It may have ended meanwhile (its cap, or an eviction).
    if (slots_[id].phase == Phase::kFresh) settle_one(id, now_ns);
  }
  fresh_.clear();
}

void Lingerer::settle_one(SocketId id, std::uint64_t now_ns) {
  // Twice, because a client's last bytes and its FIN often lie there together.
  const std::uint64_t before = counters_[kDrainedBytes];
  if (look(id, now_ns) == Look::kEnded) return;
  if (counters_[kDrainedBytes] != before && look(id, now_ns) == Look::kEnded) return;
  Slot& slot = slots_[id];
  if (!ops_.watch(id, slot.generation)) {
    give_up(id, kEvicted, now_ns);
    return;
  }
  slot.phase = Phase::kWatched;
  enter_queue();
  note_unsent(id);
  arm_idle(id, now_ns);
}

// Takes what has come and acts on how the socket is.
Lingerer::Look Lingerer::look(SocketId id, std::uint64_t now_ns) {
  Slot& slot = slots_[id];
  const DrainResult found = ops_.drain(id);
  if (found.bytes > 0) {
    count_bytes(id, found.bytes);
    note_bytes(slot.patience);
    if (slot.phase == Phase::kWatched) arm_idle(id, now_ns);
  }
  switch (found.state) {
    case DrainResult::State::kOpen: return Look::kOpen;
    case DrainResult::State::kEof: end(id, kClosedByClient, now_ns); break;
    case DrainResult::State::kReset: end(id, kClosedByReset, now_ns); break;
    case DrainResult::State::kNotConnected:
      // A watched socket was connected once: whatever it is now, its connection is over.
      if (slot.phase == Phase::kWatched) {
        end(id, kClosedByReset, now_ns);
      } else {
        reject(id);
      }
      break;
  }
  return Look::kEnded;
}

void Lingerer::count_bytes(SocketId id, std::uint64_t bytes) {
  if (bytes == 0) return;
  counters_[kDrainedBytes] += bytes;
  if (!slots_[id].rescued) ++counters_[kRescued];
  slots_[id].rescued = true;
}

void Lingerer::ready(SocketId id, std::uint32_t generation, std::uint64_t now_ns) {
  if (id >= slots_.size() || slots_[id].generation != generation) return;
  if (slots_[id].phase == Phase::kWatched) look(id, now_ns);
  if (slots_[id].phase == Phase::kDelivering) push(id, now_ns);
}

void Lingerer::expire(std::uint64_t now_ns, std::size_t budget) {
  const MonoMillis now = to_millis(now_ns);
  for (; budget > 0; --budget) {
    const std::optional<Due> due = cap_.next();
    if (!due || due->deadline > now) break;
    give_up(due->id, kClosedCap, now_ns);
  }
  for (; budget > 0; --budget) {
    const std::optional<Due> due = idle_.next();
    if (!due || due->deadline > now) break;
    idle_is_over(due->id, now_ns);
  }
  for (const auto* queue : {&stall_, &rate_}) {
    for (; budget > 0; --budget) {
      const std::optional<Due> due = queue->next();
      if (!due || due->deadline > now) break;
      delivery_time_is_up(due->id, now_ns, queue == &rate_);
    }
  }
}

void Lingerer::idle_is_over(SocketId id, std::uint64_t now_ns) {
  // Bytes may lie there that nobody has looked at yet, when this process was stopped or had too
  // much to do: their client isn't silent.
  const std::uint64_t before = counters_[kDrainedBytes];
  if (look(id, now_ns) == Look::kEnded || counters_[kDrainedBytes] != before) return;
  Slot& slot = slots_[id];
  if (judge_silence(slot.patience, ops_.unsent(id)) == IdleVerdict::kWait) {
    arm_idle(id, now_ns);
  } else {
    give_up(id, kClosedIdle, now_ns);
  }
}

void Lingerer::arm_idle(SocketId id, std::uint64_t now_ns) {
  idle_.arm(id, to_millis(now_ns), slots_[id].patience.wait_ms());
}

void Lingerer::arm_stall(SocketId id, std::uint64_t now_ns) {
  stall_.arm(id, to_millis(now_ns), slots_[id].patience.wait_ms());
}

std::optional<MonoMillis> Lingerer::next_deadline() const {
  std::optional<MonoMillis> first;
  for (const auto* queue : {&idle_, &cap_, &stall_, &rate_}) {
    const std::optional<Due> due = queue->next();
    if (due && (!first || due->deadline < *first)) first = due->deadline;
  }
  return first;
}

// A linger ends with its client still there. What it has sent by now is taken first: closing with
// unread bytes would answer them with RST.
void Lingerer::give_up(SocketId id, DaemonCounter how, std::uint64_t now_ns) {
  if (slots_[id].phase == Phase::kDelivering) {
    break_off(id, kDeliveryAborted, how, now_ns);
    return;
  }
  const DrainResult last = ops_.drain(id);
  count_bytes(id, last.bytes);
  if (last.state == DrainResult::State::kEof) how = kClosedByClient;
  if (last.state == DrainResult::State::kReset) how = kClosedByReset;
  end(id, how, now_ns);
}

void Lingerer::end(SocketId id, DaemonCounter how, std::uint64_t now_ns) {
  const Slot& slot = slots_[id];
  // A fresh socket enters the counters only now.
  if (slot.phase == Phase::kFresh) {
    ++counters_[kTotal];
  } else {
    --counters_[kQueue];
  }
  counters_[kWorkerMillisFreed] += to_millis(now_ns) - slot.started;
  ++counters_[how];
  release(id);
}

void Lingerer::reject(SocketId id) {
  ++counters_[kRejected];
  release(id);
}

void Lingerer::release(SocketId id) {
  Slot& slot = slots_[id];
  const bool watched = slot.phase == Phase::kWatched || slot.phase == Phase::kDelivering;
  idle_.disarm(id);
  cap_.disarm(id);
  stall_.disarm(id);
  rate_.disarm(id);
  slot.phase = Phase::kNone;
  --held_;
  ops_.close(id, watched);
}

void Lingerer::make_room(std::size_t room, std::uint64_t now_ns) {
  while (size() > 0 && descriptors() + room > max_connections_) {
    give_up(first_to_end(), kEvicted, now_ns);
  }
}

// The socket that would end first if nothing more came, of the heads of all lists. For one that
// still takes its response the next look is not the end yet. Deliveries last, the one that has
// stood still for longest first.
SocketId Lingerer::first_to_end() const {
  const std::optional<Due> linger = cap_.next();  // armed for each one that lingers
  if (!linger) return stall_.next()->id;
  Due first = *linger;
  idle_.for_each_head([&](SocketId id) {
    const auto look = *idle_.armed(id);
    const MonoMillis end =
        look.deadline + MonoMillis{slots_[id].patience.looks_after_next()} * look.duration_ms;
    if (end < first.deadline) first = {id, end};
  });
  return first.id;
}

void Lingerer::set_limits(std::uint32_t max_connections, std::uint32_t max_time_ms,
                          std::uint64_t now_ns) {
  max_connections_ = max_connections;
  max_time_ms_ = max_time_ms;
  counters_[kQueueLimit] = max_connections;
  make_room(0, now_ns);
}

void Lingerer::set_offload_limits(std::uint64_t memory, std::uint64_t min_rate) {
  counters_[kOffloadMemoryLimit] = memory;
  deliveries_.set_min_rate(min_rate);
}

void Lingerer::end_all(std::uint64_t now_ns) {
  for (const auto* queue : {&cap_, &stall_}) {
    while (const std::optional<Due> due = queue->next()) give_up(due->id, kClosedCap, now_ns);
  }
  fresh_.clear();
}

std::vector<Lingerer::Carried> Lingerer::carry_out() {
  std::vector<Carried> out;
  out.reserve(held_);
  for (SocketId id = 0; id < slots_.size(); ++id) {
    const Slot& slot = slots_[id];
    if (slot.phase != Phase::kWatched && slot.phase != Phase::kDelivering) continue;
    Carried carried{.id = id, .state = {}};
    CarriedSocket& socket = carried.state;
    socket.started_ms = slot.started;
    const bool delivers = slot.phase == Phase::kDelivering;
    if (const auto cap = (delivers ? rate_ : cap_).armed(id)) {
      socket.cap_deadline_ms = cap->deadline;
      socket.cap_ms = cap->duration_ms;
    }
    if (const auto idle = (delivers ? stall_ : idle_).armed(id)) {
      socket.idle_deadline_ms = idle->deadline;
      socket.idle_wait_ms = idle->duration_ms;
    }
    socket.idle_ms = slot.patience.idle_ms;
    socket.unsent = slot.patience.unsent;
    socket.quiet_looks = slot.patience.quiet_looks;
    socket.rescued = slot.rescued ? 1 : 0;
    if (const Delivery* delivery = deliveries_.find(id)) {
      carried.content = delivery->content.id;
      socket.content_offset = delivery->content.offset;
      socket.content_left = delivery->content.left;
      socket.content_memory = delivery->content.memory;
      socket.window_left = delivery->window_left;
      socket.linger_idle_ms = delivery->idle_ms;
      socket.linger_cap_ms = delivery->cap_ms;
    }
    out.push_back(carried);
  }
  return out;
}

void Lingerer::carry_in(const DaemonCounters& counters, std::vector<Carried> sockets,
                        std::uint64_t now_ns) {
  const std::uint64_t memory_limit = counters_[kOffloadMemoryLimit];
  counters_ = counters;
  counters_[kQueueLimit] = max_connections_;
  counters_[kOffloadMemoryLimit] = memory_limit;
  // A socket that didn't arrive has ended all the same.
  const std::uint64_t lost =
      counters[kQueue] - std::min<std::uint64_t>(counters[kQueue], sockets.size());
  counters_[kEvicted] += lost;
  counters_[kQueue] = counters_[kOffloadPending] = counters_[kOffloadMemory] = 0;
  for (const Carried& carried : sockets) carry_in_one(carried, now_ns);
  // Nor has a delivery without its socket or its content been made.
  const std::uint64_t under_way = deliveries_under_way(counters);
  counters_[kDeliveryAborted] += under_way - std::min<std::uint64_t>(under_way, deliveries_.size());
  // A list stays sorted if it is filled in the order of its deadlines.
  std::ranges::sort(sockets, {}, [](const Carried& c) { return c.state.cap_deadline_ms; });
  for (const auto& [id, socket, content] : sockets) {
    (socket.delivers() ? rate_ : cap_)
        .arm(id, socket.cap_deadline_ms - socket.cap_ms, socket.cap_ms);
  }
  std::ranges::sort(sockets, {}, [](const Carried& c) { return c.state.idle_deadline_ms; });
  for (const auto& [id, socket, content] : sockets) {
    (socket.delivers() ? stall_ : idle_)
        .arm(id, socket.idle_deadline_ms - socket.idle_wait_ms, socket.idle_wait_ms);
  }
  for (const Carried& carried : sockets) {
    const std::uint32_t generation = slots_[carried.id].generation;
    const bool watched = carried.state.delivers() ? ops_.watch_writable(carried.id, generation)
                                                  : ops_.watch(carried.id, generation);
    // A delivery whose content got lost has sent no FIN, and never will.
    const bool cut_off = !carried.state.delivers() && carried.state.linger_idle_ms != 0;
    if (!watched || cut_off) give_up(carried.id, kEvicted, now_ns);
  }
  make_room(0, now_ns);
}

void Lingerer::carry_in_one(const Carried& carried, std::uint64_t now_ns) {
  const CarriedSocket& socket = carried.state;
  if (carried.id >= slots_.size()) slots_.resize(std::size_t{carried.id} + 1);
  Slot& slot = slots_[carried.id];
  slot.started = std::min<MonoMillis>(socket.started_ms, to_millis(now_ns));
  slot.generation = 1;
  slot.patience = {.idle_ms = socket.idle_ms,
                   .unsent = socket.unsent,
                   .quiet_looks = static_cast<std::uint8_t>(socket.quiet_looks)};
  slot.rescued = socket.rescued != 0;
  slot.phase = Phase::kWatched;
  ++held_;
  ++counters_[kQueue];
  if (!socket.delivers()) return;
  slot.phase = Phase::kDelivering;
  const Content content{carried.content, socket.content_offset, socket.content_left,
                        socket.content_memory};
  deliveries_.resume(carried.id,
                     {content, socket.linger_idle_ms, socket.linger_cap_ms, socket.window_left});
}

std::uint64_t Lingerer::oldest_ns() const {
  MonoMillis oldest = 0;
  cap_.for_each_head([&](SocketId id) {
    const MonoMillis started = slots_[id].started;
    if (oldest == 0 || started < oldest) oldest = started;
  });
  return oldest * kNanosPerMilli;
}

}  // namespace lingerd
