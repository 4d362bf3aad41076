// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/deliveries.h"

#include <algorithm>
#include <limits>

#include "lingerd/core/drain.h"

namespace lingerd {
namespace {

using enum DaemonCounter;

constexpr std::uint32_t kTiredMs = 100;

}  // namespace

Deliveries::Deliveries(DeliveryOps& ops, Capacity& capacity, DaemonCounters& counters)
    : ops_(ops), capacity_(capacity), counters_(counters) {}

void Deliveries::set_limits(std::uint64_t memory, std::uint64_t min_rate) {
  counters_[kOffloadMemoryLimit] = memory;
  books_.set_min_rate(min_rate);
}

bool Deliveries::set_aside(std::uint64_t memory, User user, std::uint64_t now_ns) {
  const std::uint64_t taken = counters_[kOffloadMemory];
  const std::uint64_t limit = counters_[kOffloadMemoryLimit];
  const bool fits = memory == 0 || (taken <= limit && memory <= limit - taken);
  const auto of_user = set_aside_of_.find(user);
  const bool has_share = of_user == set_aside_of_.end() ||
                         has_share_for_offer(of_user->second.count, capacity_.limit());
  if (!fits || !has_share || !has_room_for_delivery(size() + set_aside_, capacity_.limit()) ||
      !capacity_.make_room_for(user, 2, now_ns)) {
    ++counters_[kOffloadsRefused];
    return false;
  }
  Aside& aside = set_aside_of_[user];
  if (aside.count++ == 0) {
    aside.place = capacity_.shares().add(user, Shares::Kind::kFixed, 2);
  } else {
    capacity_.shares().add_at(aside.place, Shares::Kind::kFixed, 2);
  }
  counters_[kOffers] = ++set_aside_;
  counters_[kOffloadMemory] += memory;
  return true;
}

void Deliveries::give_back(std::uint64_t memory, User user) {
  const auto aside = set_aside_of_.find(user);
  capacity_.shares().remove(aside->second.place, Shares::Kind::kFixed, 2);
  if (--aside->second.count == 0) set_aside_of_.erase(aside);
  counters_[kOffers] = --set_aside_;
  counters_[kOffloadMemory] -= memory;
}

bool Deliveries::begin(SocketId id, std::uint32_t generation, const Content& content,
                       const Handoff& handoff, std::uint64_t now_ns) {
  Delivery& delivery = books_.begin(id, content, handoff);
  delivery.generation = generation;
  delivery.patience = {.idle_ms = handoff.stall_ms, .fin = kNoFinYet};
  rate_.arm(id, to_millis(now_ns), kRateWindowMs);
  if (!ops_.watch_writable(id, generation)) {
    end(id, kDeliveryAborted);
    return false;
  }
  note_unsent(id, delivery);
  arm_stall(id, delivery, now_ns);
  return true;
}

Deliveries::Progress Deliveries::push(SocketId id, std::uint64_t now_ns) {
  Delivery& delivery = *books_.find(id);
  const PushResult result = ops_.push(id, delivery.content);
  if (result.bytes > 0) {
    books_.moved(delivery, result.bytes);
    note_unsent(id, delivery);
    note_bytes(delivery.patience);
    arm_stall(id, delivery, now_ns);
  }
  if (delivery.content.left == 0) return delivered(id);
  if (result.state == PushResult::State::kReset || result.state == PushResult::State::kCutShort) {
    return break_off(id, kDeliveryAborted, kClosedByReset);
  }
  return {};
}

// A socket is writable and takes nothing all the same while the kernel has no memory for it
// (tcp_mem). epoll would say so again at once, and again.
Deliveries::Progress Deliveries::ready(SocketId id, std::uint64_t now_ns) {
  const std::uint64_t before = books_.find(id)->content.left;
  const Progress progress = push(id, now_ns);
  if (progress.state != Progress::State::kUnderWay) return progress;
  const Delivery& delivery = *books_.find(id);
  if (delivery.content.left < before) return progress;
  ops_.stop_watching(id, delivery.generation);
  tired_.arm(id, to_millis(now_ns), kTiredMs);
  return progress;
}

// The response is the kernel's: now its linger begins.
Deliveries::Progress Deliveries::delivered(SocketId id) {
  const Delivery delivery = *books_.find(id);
  end(id, kDelivered);
  ops_.send_fin(id);
  ops_.watch_readable_again(id, delivery.generation);
  return {
      .state = Progress::State::kDelivered, .idle_ms = delivery.idle_ms, .cap_ms = delivery.cap_ms};
}

Deliveries::Progress Deliveries::break_off(SocketId id, DaemonCounter why, DaemonCounter how) {
  end(id, why);
  return {.state = Progress::State::kBrokenOff, .how = how};
}

void Deliveries::end(SocketId id, DaemonCounter how) {
  const SocketId content = books_.find(id)->content.id;
  books_.end(id, how);
  stall_.disarm(id);
  rate_.disarm(id);
  tired_.disarm(id);
  ops_.close_content(content);
}

std::optional<Deliveries::Judged> Deliveries::judge_next(std::uint64_t now_ns) {
  const MonoMillis now = to_millis(now_ns);
  const auto due_in = [now](const DeadlineQueue& queue) {
    const std::optional<Due> due = queue.next();
    return due && due->deadline <= now ? due : std::nullopt;
  };
  if (const auto due = due_in(tired_)) {
    tired_.disarm(due->id);
    ops_.watch_writable_again(due->id, books_.find(due->id)->generation);
    return Judged{due->id, {}};
  }
  if (const auto due = due_in(stall_)) return Judged{due->id, judge_stall(due->id, now_ns)};
  if (const auto due = due_in(rate_)) return Judged{due->id, judge_window(due->id, now_ns)};
  return std::nullopt;
}

// A window of the minimum rate is over.
Deliveries::Progress Deliveries::judge_window(SocketId id, std::uint64_t now_ns) {
  if (!books_.fast_enough(*books_.find(id))) return break_off(id, kDeliveryTimedOut, kClosedIdle);
  rate_.arm(id, to_millis(now_ns), kRateWindowMs);
  return {};
}

// Nothing has moved for a while.
Deliveries::Progress Deliveries::judge_stall(SocketId id, std::uint64_t now_ns) {
  Delivery& delivery = *books_.find(id);
  if (judge_silence(delivery.patience, ops_.unsent(id)) == IdleVerdict::kGiveUp) {
    return break_off(id, kDeliveryTimedOut, kClosedIdle);
  }
  arm_stall(id, delivery, now_ns);
  return {};
}

void Deliveries::note_unsent(SocketId id, Delivery& delivery) {
  delivery.patience.unsent = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(ops_.unsent(id), std::numeric_limits<std::uint32_t>::max()));
}

void Deliveries::arm_stall(SocketId id, const Delivery& delivery, std::uint64_t now_ns) {
  stall_.arm(id, to_millis(now_ns), delivery.patience.wait_ms());
}

std::optional<MonoMillis> Deliveries::next_deadline() const {
  std::optional<MonoMillis> first;
  for (const auto* queue : {&stall_, &rate_, &tired_}) {
    const std::optional<Due> due = queue->next();
    if (due && (!first || due->deadline < *first)) first = due->deadline;
  }
  return first;
}

std::optional<SocketId> Deliveries::slowest() const {
  const std::optional<Due> due = stall_.next();
  return due ? std::optional(due->id) : std::nullopt;
}

void Deliveries::carry_out(SocketId id, CarriedSocket& state) const {
  state.cap = rate_.armed(id).value_or(Clock{});
  state.idle = stall_.armed(id).value_or(Clock{});
  state.delivery = *books_.find(id);
}

void Deliveries::resume(SocketId id, std::uint32_t generation, Delivery delivery) {
  delivery.generation = generation;
  books_.resume(id, delivery);
}

void Deliveries::resume_window(SocketId id, const CarriedSocket& state) {
  rate_.arm_again(id, state.cap);
}

void Deliveries::resume_stall(SocketId id, const CarriedSocket& state) {
  stall_.arm_again(id, state.idle);
}

bool Deliveries::watch_resumed(SocketId id) {
  return ops_.watch_writable(id, books_.find(id)->generation);
}

}  // namespace lingerd
