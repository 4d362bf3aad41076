// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/lingerer.h"

#include <algorithm>
#include <limits>

namespace lingerd {
namespace {

using enum DaemonCounter;

// Numbers go higher than the sockets that linger: other descriptors lie between them.
constexpr std::size_t kIdsBeyondSockets = 16'384;

}  // namespace

Lingerer::Lingerer(SocketOps& ops, Deliveries& deliveries, Capacity& capacity,
                   DaemonCounters& counters, std::uint32_t max_time_ms)
    : ops_(ops),
      deliveries_(deliveries),
      capacity_(capacity),
      counters_(counters),
      shares_(capacity.shares()),
      max_time_ms_(max_time_ms),
      idle_(capacity.limit() + kIdsBeyondSockets),
      cap_(capacity.limit() + kIdsBeyondSockets) {
  slots_.reserve(capacity.limit() + kIdsBeyondSockets);
  capacity.set(*this);
}

Lingerer::Slot& Lingerer::open_slot(SocketId id, const Handoff& handoff, std::uint64_t now_ns) {
  if (id >= slots_.size()) slots_.resize(std::size_t{id} + 1);
  Slot& slot = slots_[id];
  // The hand-off's time is the peer's word: not in the future, and no older than a linger can be.
  const MonoMillis now = to_millis(now_ns);
  const MonoMillis earliest = now > max_time_ms_ ? now - max_time_ms_ : 0;
  slot.linger.started = std::clamp(to_millis(handoff.handed_off_ns), earliest, now);
  slot.generation = (slot.generation + 1) & 0x7fffffff;
  slot.linger.patience = {.idle_ms = std::min(handoff.idle_ms, max_time_ms_)};
  slot.phase = Phase::kFresh;
  slot.linger.rescued = 0;
  slot.place = shares_.add(handoff.user, Shares::Kind::kLinger);
  ++held_;
  return slot;
}

void Lingerer::arrive(SocketId id, const Handoff& handoff, std::uint64_t now_ns, bool quick) {
  arrive(id, handoff, now_ns, quick, capacity_.make_room_for(handoff.user, 1, now_ns));
}

void Lingerer::arrive(SocketId id, const Handoff& handoff, std::uint64_t now_ns, bool quick,
                      bool has_room) {
  const Slot& slot = open_slot(id, handoff, now_ns);
  if (!has_room) {
    give_up(id, kEvicted, now_ns);
    return;
  }
  cap_.arm(id, slot.linger.started, std::min(handoff.cap_ms, max_time_ms_), slot.place);
  if (quick) {
    settle_one(id, now_ns);
  } else {
    fresh_.push_back(id);
  }
}

void Lingerer::arrive_with(SocketId id, const Content& content, const Handoff& handoff,
                           std::uint64_t now_ns) {
  capacity_.make_room(2, now_ns);
  Slot& slot = open_slot(id, handoff, now_ns);
  if (!deliveries_.begin(id, slot.generation, content, handoff, now_ns)) {
    end(id, kEvicted, now_ns);
    return;
  }
  now_delivers(slot);
  enter_queue();
  act_on(id, deliveries_.push(id, now_ns), now_ns);
}

// It has two descriptors, and is ended for nobody's room.
void Lingerer::now_delivers(Slot& slot) {
  slot.phase = Phase::kDelivering;
  shares_.add_at(slot.place, Shares::Kind::kFixed, 2);
  shares_.remove(slot.place, Shares::Kind::kLinger);
}

void Lingerer::act_on(SocketId id, const Deliveries::Progress& progress, std::uint64_t now_ns) {
  switch (progress.state) {
    case Deliveries::Progress::State::kUnderWay: break;
    case Deliveries::Progress::State::kDelivered: linger_on(id, progress, now_ns); break;
    case Deliveries::Progress::State::kBrokenOff: end(id, progress.how, now_ns); break;
  }
}

// Its response is out, and the FIN.
void Lingerer::linger_on(SocketId id, const Deliveries::Progress& delivered, std::uint64_t now_ns) {
  Slot& slot = slots_[id];
  counters_[kWorkerMillisFreed] += to_millis(now_ns) - slot.linger.started;
  slot.linger.started = to_millis(now_ns);
  slot.phase = Phase::kWatched;
  shares_.add_at(slot.place, Shares::Kind::kLinger);
  shares_.remove(slot.place, Shares::Kind::kFixed, 2);
  slot.linger.patience = {.idle_ms = std::min(delivered.idle_ms, max_time_ms_)};
  cap_.arm(id, slot.linger.started, std::min(delivered.cap_ms, max_time_ms_), slot.place);
  note_unsent(id);
  arm_idle(id, now_ns);
  look(id, now_ns);
}

void Lingerer::enter_queue() {
  ++counters_[kTotal];
  ++counters_[kQueue];
  counters_[kQueuePeak] = std::max(counters_[kQueuePeak], counters_[kQueue]);
}

void Lingerer::note_unsent(SocketId id) {
  slots_[id].linger.patience.unsent = static_cast<std::uint32_t>(
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
    note_bytes(slot.linger.patience);
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
  if (slots_[id].linger.rescued == 0) ++counters_[kRescued];
  slots_[id].linger.rescued = 1;
}

void Lingerer::ready(SocketId id, std::uint32_t generation, std::uint64_t now_ns) {
  if (id >= slots_.size() || slots_[id].generation != generation) return;
  if (slots_[id].phase == Phase::kWatched) look(id, now_ns);
  if (slots_[id].phase == Phase::kDelivering) act_on(id, deliveries_.ready(id, now_ns), now_ns);
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
  for (; budget > 0; --budget) {
    const auto judged = deliveries_.judge_next(now_ns);
    if (!judged) break;
    act_on(judged->id, judged->progress, now_ns);
  }
}

void Lingerer::idle_is_over(SocketId id, std::uint64_t now_ns) {
  // Bytes may lie there that nobody has looked at yet, when this process was stopped or had too
  // much to do: their client isn't silent.
  const std::uint64_t before = counters_[kDrainedBytes];
  if (look(id, now_ns) == Look::kEnded || counters_[kDrainedBytes] != before) return;
  Slot& slot = slots_[id];
  if (judge_silence(slot.linger.patience, ops_.unsent(id)) == IdleVerdict::kWait) {
    arm_idle(id, now_ns);
  } else {
    give_up(id, kClosedIdle, now_ns);
  }
}

void Lingerer::arm_idle(SocketId id, std::uint64_t now_ns) {
  idle_.arm(id, to_millis(now_ns), slots_[id].linger.patience.wait_ms(), slots_[id].place);
}

std::optional<MonoMillis> Lingerer::next_deadline() const {
  std::optional<MonoMillis> first = deliveries_.next_deadline();
  for (const auto* queue : {&idle_, &cap_}) {
    const std::optional<Due> due = queue->next();
    if (due && (!first || due->deadline < *first)) first = due->deadline;
  }
  return first;
}

// A linger ends with its client still there. What it has sent by now is taken first: closing with
// unread bytes would answer them with RST.
void Lingerer::give_up(SocketId id, DaemonCounter how, std::uint64_t now_ns) {
  if (slots_[id].phase == Phase::kDelivering) {
    deliveries_.abort(id);
    return end(id, how, now_ns);
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
  counters_[kWorkerMillisFreed] += to_millis(now_ns) - slot.linger.started;
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
  const bool delivered = slot.phase == Phase::kDelivering;
  shares_.remove(slot.place, delivered ? Shares::Kind::kFixed : Shares::Kind::kLinger,
                 delivered ? 2 : 1);
  slot.phase = Phase::kNone;
  --held_;
  ops_.close(id, watched);
}

void Lingerer::end_all(std::uint64_t now_ns) {
  while (const std::optional<Due> due = cap_.next()) give_up(due->id, kClosedCap, now_ns);
  while (const auto id = deliveries_.slowest()) give_up(*id, kClosedCap, now_ns);
  fresh_.clear();
}

std::uint64_t Lingerer::oldest_ns() const {
  MonoMillis oldest = 0;
  cap_.for_each_head([&](SocketId id) {
    const MonoMillis started = slots_[id].linger.started;
    if (oldest == 0 || started < oldest) oldest = started;
  });
  return oldest * 1'000'000;
}

}  // namespace lingerd
