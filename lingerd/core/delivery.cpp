// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/delivery.h"

namespace lingerd {

using enum DaemonCounter;

Delivery& DeliveryBooks::begin(SocketId id, const Content& content, const Handoff& handoff) {
  ++counters_[kOffloads];
  counters_[kOffloadBytes] += content.left;
  counters_[kOffloadPending] += content.left;
  counters_[kOffloadMemory] += content.memory;
  return under_way_[id] = {.content = content,
                           .idle_ms = handoff.idle_ms,
                           .cap_ms = handoff.cap_ms,
                           .window_left = content.left};
}

Delivery& DeliveryBooks::resume(SocketId id, const Delivery& delivery) {
  counters_[kOffloadPending] += delivery.content.left;
  counters_[kOffloadMemory] += delivery.content.memory;
  return under_way_[id] = delivery;
}

Delivery* DeliveryBooks::find(SocketId id) {
  const auto found = under_way_.find(id);
  return found == under_way_.end() ? nullptr : &found->second;
}

const Delivery* DeliveryBooks::find(SocketId id) const {
  const auto found = under_way_.find(id);
  return found == under_way_.end() ? nullptr : &found->second;
}

void DeliveryBooks::moved(Delivery& delivery, std::uint64_t bytes) {
  delivery.content.offset += bytes;
  delivery.content.left -= bytes;
  counters_[kOffloadPending] -= bytes;
}

void DeliveryBooks::end(SocketId id, DaemonCounter how) {
  const auto found = under_way_.find(id);
  if (found == under_way_.end()) return;
  ++counters_[how];
  counters_[kOffloadPending] -= found->second.content.left;
  counters_[kOffloadMemory] -= found->second.content.memory;
  under_way_.erase(found);
}

bool DeliveryBooks::fast_enough(Delivery& delivery) const {
  const std::uint64_t moved = delivery.window_left - delivery.content.left;
  delivery.window_left = delivery.content.left;
  return moved >= min_rate_ * kRateWindowMs / 1'000;
}

}  // namespace lingerd
