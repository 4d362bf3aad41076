// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/deadlines.h"

#include <algorithm>
#include <bit>

#include "contract/record.h"

namespace lingerd {

DeadlineQueue::DeadlineQueue(std::size_t ids) {
  links_.reserve(ids);
}

std::size_t DeadlineQueue::list_for(Lists& owned, std::uint32_t duration_ms) {
  std::size_t empty = kMaxDurations;
  for (std::size_t i = 0; i < owned.used; ++i) {
    if (owned.lists[i].duration_ms == duration_ms) return i;
    if (owned.lists[i].head == kNone) empty = i;
  }
  if (empty == kMaxDurations && owned.used < kMaxDurations) empty = owned.used++;
  if (empty == kMaxDurations) return rounded_list_for(owned, duration_ms);
  owned.lists[empty].duration_ms = duration_ms;
  return empty;
}

std::size_t DeadlineQueue::rounded_list_for(Lists& owned, std::uint32_t duration_ms) {
  const std::uint32_t rounded = std::min(std::bit_ceil(duration_ms), kMaxDurationMs);
  const auto index = kMaxDurations + static_cast<std::size_t>(std::bit_width(rounded - 1));
  owned.lists[index].duration_ms = rounded;
  return index;
}

void DeadlineQueue::arm(SocketId id, MonoMillis start, std::uint32_t duration_ms, Owner owner) {
  if (id >= links_.size()) links_.resize(std::size_t{id} + 1);
  disarm(id);
  if (owner >= owners_.size()) owners_.resize(std::size_t{owner} + 1);
  Lists& owned = owners_[owner];
  const std::size_t index = list_for(owned, duration_ms);
  List& list = owned.lists[index];
  ++owned.armed;
  Link& link = links_[id];
  link.owner = owner;
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

void DeadlineQueue::arm_again(SocketId id, const Armed& as_before, Owner owner) {
  arm(id, as_before.deadline - as_before.duration_ms, as_before.duration_ms, owner);
  Link& link = links_[id];
  const MonoMillis before = link.prev == kNone ? 0 : links_[link.prev].deadline;
  link.deadline = std::max(as_before.deadline, before);
}

void DeadlineQueue::disarm(SocketId id) {
  if (id >= links_.size() || links_[id].list == kUnarmed) return;
  Link& link = links_[id];
  Lists& owned = owners_[link.owner];
  List& list = owned.lists[link.list];
  --owned.armed;
  (link.prev == kNone ? list.head : links_[link.prev].next) = link.next;
  (link.next == kNone ? list.tail : links_[link.next].prev) = link.prev;
  link.list = kUnarmed;
}

std::optional<DeadlineQueue::Armed> DeadlineQueue::armed(SocketId id) const {
  if (id >= links_.size() || links_[id].list == kUnarmed) return std::nullopt;
  return Armed{links_[id].deadline, owners_[links_[id].owner].lists[links_[id].list].duration_ms};
}

std::optional<Due> DeadlineQueue::next() const {
  std::optional<Due> first;
  for (std::size_t owner = 0; owner < owners_.size(); ++owner) {
    const std::optional<Due> due = next_of(static_cast<Owner>(owner));
    if (due && (!first || due->deadline < first->deadline)) first = due;
  }
  return first;
}

std::optional<Due> DeadlineQueue::next_of(Owner owner) const {
  std::optional<Due> first;
  for_each_head_of(owner, [&](SocketId id) {
    const MonoMillis deadline = links_[id].deadline;
    if (!first || deadline < first->deadline) first = Due{id, deadline};
  });
  return first;
}

}  // namespace lingerd
