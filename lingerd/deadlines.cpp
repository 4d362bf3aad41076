// SPDX-License-Identifier: Apache-2.0
#include "lingerd/deadlines.h"

#include <algorithm>
#include <bit>

#include "lingerd/record.h"

namespace lingerd {

DeadlineQueue::DeadlineQueue(std::size_t ids) {
  links_.reserve(ids);
}

std::size_t DeadlineQueue::list_for(std::uint32_t duration_ms) {
  std::size_t empty = kMaxDurations;
  for (std::size_t i = 0; i < used_; ++i) {
    if (lists_[i].duration_ms == duration_ms) return i;
    if (lists_[i].head == kNone) empty = i;
  }
  if (empty == kMaxDurations && used_ < kMaxDurations) empty = used_++;
  if (empty == kMaxDurations) return rounded_list_for(duration_ms);
  lists_[empty].duration_ms = duration_ms;
  return empty;
}

std::size_t DeadlineQueue::rounded_list_for(std::uint32_t duration_ms) {
  const std::uint32_t rounded = std::min(std::bit_ceil(duration_ms), kMaxDurationMs);
  const auto index = kMaxDurations + static_cast<std::size_t>(std::bit_width(rounded - 1));
  lists_[index].duration_ms = rounded;
  return index;
}

void DeadlineQueue::arm(SocketId id, MonoMillis start, std::uint32_t duration_ms) {
  if (id >= links_.size()) links_.resize(std::size_t{id} + 1);
  disarm(id);
  const std::size_t index = list_for(duration_ms);
  List& list = lists_[index];
  Link& link = links_[id];
  link.deadline = start + list.duration_ms;
  link.list = index;
  link.prev = list.tail;
  link.next = kNone;
  if (list.tail == kNone) {
    list.head = id;
  } else {
    Link& tail = links_[list.tail];
    // Starts don't always come in order (two children's hand-offs of the same millisecond): a list
    // stays sorted by letting the late one wait with the last, which costs it less than the
    // distance between the two starts.
    link.deadline = std::max<std::uint64_t>(link.deadline, tail.deadline);
    tail.next = id;
  }
  list.tail = id;
}

void DeadlineQueue::disarm(SocketId id) {
  if (id >= links_.size() || links_[id].list == kUnarmed) return;
  Link& link = links_[id];
  List& list = lists_[link.list];
  (link.prev == kNone ? list.head : links_[link.prev].next) = link.next;
  (link.next == kNone ? list.tail : links_[link.next].prev) = link.prev;
  link.list = kUnarmed;
}

std::optional<DeadlineQueue::Armed> DeadlineQueue::armed(SocketId id) const {
  if (id >= links_.size() || links_[id].list == kUnarmed) return std::nullopt;
  return Armed{links_[id].deadline, lists_[links_[id].list].duration_ms};
}

std::optional<Due> DeadlineQueue::next() const {
  std::optional<Due> first;
  for_each_head([&](SocketId id) {
    const MonoMillis deadline = links_[id].deadline;
    if (!first || deadline < first->deadline) first = Due{id, deadline};
  });
  return first;
}

}  // namespace lingerd
