// SPDX-License-Identifier: Apache-2.0
// Deadlines in O(1): one FIFO list for each distinct duration. All sockets of a list wait equally
// long, so a socket that is armed goes to the tail and the list stays sorted by deadline: no heap,
// no wheel. Links are kept by socket number, 16 bytes each. Pure: the time is an argument.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace lingerd {

using SocketId = std::uint32_t;    // a descriptor's number
using MonoMillis = std::uint64_t;  // CLOCK_MONOTONIC, milliseconds

struct Due {
  SocketId id = 0;
  MonoMillis deadline = 0;
};

class DeadlineQueue {
 public:
  // Distinct durations at the same time that get a list each. A site has a handful. Whoever makes
  // up more shares lists of rounded durations with others of his kind: a socket then waits up to
  // twice as long as was asked, never shorter, so that one peer's inventions can't end another's
  // sockets.
  static constexpr std::size_t kMaxDurations = 32;
  static constexpr std::size_t kRoundedLists = 23;  // powers of two, up to kMaxDurationMs

  // Reserves address space, not memory, for ids up to `ids`.
  explicit DeadlineQueue(std::size_t ids);

  // (Re)arms `id` to be due at start + duration, or with its list's last one if that is later.
  void arm(SocketId id, MonoMillis start, std::uint32_t duration_ms);
  void disarm(SocketId id);  // no-op when it isn't armed
  [[nodiscard]] std::optional<Due> next() const;

  struct Armed {
    MonoMillis deadline = 0;
    std::uint32_t duration_ms = 0;  // of the list that it is in
  };
  [[nodiscard]] std::optional<Armed> armed(SocketId id) const;

  // Calls `visit` with the longest-armed socket of each list.
  template <typename Visit>
  void for_each_head(Visit visit) const {
    for (const List& list : lists_) {
      if (list.head != kNone) visit(SocketId{list.head});
    }
  }

 private:
  static constexpr std::uint32_t kNone = 0xffffffff;
  static constexpr std::uint64_t kUnarmed = 0xff;
  struct Link {
    std::uint32_t prev = kNone;
    std::uint32_t next = kNone;
    std::uint64_t deadline : 56 = 0;
    std::uint64_t list : 8 = kUnarmed;
  };
  static_assert(sizeof(Link) == 16);
  struct List {
    std::uint32_t duration_ms = 0;
    std::uint32_t head = kNone;
    std::uint32_t tail = kNone;
  };

  std::size_t list_for(std::uint32_t duration_ms);
  std::size_t rounded_list_for(std::uint32_t duration_ms);
  std::vector<Link> links_;
  std::array<List, kMaxDurations + kRoundedLists> lists_;
  std::size_t used_ = 0;  // of the first kMaxDurations
};

}  // namespace lingerd
