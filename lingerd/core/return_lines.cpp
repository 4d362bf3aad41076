// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/return_lines.h"

namespace lingerd {

ReturnLines::Way& ReturnLines::way(AddressId address) {
  if (address >= ways_.size()) ways_.resize(std::size_t{address} + 1);
  return ways_[address];
}

ReturnLines::List& ReturnLines::list_of(SocketId id) {
  Way& way = ways_[links_[id].address];
  return links_[id].in_line ? way.line : way.idle;
}

void ReturnLines::append(AddressId address, SocketId id, bool in_line) {
  (void)way(address);
  if (id >= links_.size()) links_.resize(std::size_t{id} + 1);
  links_[id].address = address & 0x7fffffff;
  links_[id].in_line = in_line ? 1 : 0;
  List& list = list_of(id);
  links_[id].prev = list.tail;
  links_[id].next = kNone;
  (list.tail == kNone ? list.head : links_[list.tail].next) = id;
  list.tail = id;
  if (in_line) ++in_lines_;
}

void ReturnLines::wait(AddressId address, SocketId id) {
  append(address, id, false);
}

void ReturnLines::line_up(AddressId address, SocketId id) {
  append(address, id, true);
}

void ReturnLines::leave(SocketId id) {
  List& list = list_of(id);
  const Link link = links_[id];
  (link.prev == kNone ? list.head : links_[link.prev].next) = link.next;
  (link.next == kNone ? list.tail : links_[link.next].prev) = link.prev;
  if (link.in_line) --in_lines_;
}

std::optional<SocketId> ReturnLines::first(AddressId address) const {
  if (address >= ways_.size() || ways_[address].line.head == kNone) return std::nullopt;
  return ways_[address].line.head;
}

std::optional<SocketId> ReturnLines::any(AddressId address) const {
  if (address >= ways_.size()) return std::nullopt;
  const Way& way = ways_[address];
  const SocketId id = way.line.head != kNone ? way.line.head : way.idle.head;
  return id == kNone ? std::nullopt : std::optional(id);
}

void ReturnLines::taken(AddressId address, MonoMillis now) {
  Way& where = way(address);
  where.last_taken = now;
  where.retry_at = now;
  where.retry_ms = 0;
}

void ReturnLines::refused(AddressId address, MonoMillis now) {
  Way& where = way(address);
  where.retry_ms =
      where.retry_ms == 0 ? kFirstRetryMs : std::min(where.retry_ms * 2, kLongestRetryMs);
  where.retry_at = now + where.retry_ms;
}

std::optional<AddressId> ReturnLines::due_after(AddressId address, MonoMillis now) const {
  if (in_lines_ == 0) return std::nullopt;
  for (std::size_t i = 1; i <= ways_.size(); ++i) {
    const auto at = static_cast<AddressId>((address + i) % ways_.size());
    if (ways_[at].line.head != kNone && ways_[at].retry_at <= now) return at;
  }
  return std::nullopt;
}

std::optional<MonoMillis> ReturnLines::next_retry() const {
  std::optional<MonoMillis> next;
  if (in_lines_ == 0) return next;
  for (const Way& way : ways_) {
    if (way.line.head != kNone && (!next || way.retry_at < *next)) next = way.retry_at;
  }
  return next;
}

}  // namespace lingerd
