// SPDX-License-Identifier: Apache-2.0
// Deadlines in O(1): one FIFO list for each distinct duration. All sockets of a list wait equally
// long, so a socket that is armed goes to the tail and the list stays sorted by deadline: no heap,
// no wheel. Each owner (a peer's user, by its place among the shares) has lists of its own, so that
// the first of one owner's is found as quickly. Links are kept by socket number, 16 bytes each.
// Pure: the time is an argument.
//
// A user's peers may make up 32 durations at a time; more share lists.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace lingerd {

using SocketId = std::uint32_t;    // a descriptor's number
using MonoMillis = std::uint64_t;  // CLOCK_MONOTONIC, milliseconds
constexpr MonoMillis to_millis(std::uint64_t ns) {
  return ns / 1'000'000;
}

struct Due {
  SocketId id = 0;
  MonoMillis deadline = 0;
};

class DeadlineQueue {
 public:
  // An owner's distinct durations at the same time that get a list each. A site has a handful. More
  // share lists of rounded durations: a socket then waits up to twice as long as was asked, never
  // shorter, so that one peer's inventions can't end another's sockets.
  static constexpr std::size_t kMaxDurations = 32;
  static constexpr std::size_t kRoundedLists = 23;  // powers of two, up to kMaxDurationMs

  static constexpr std::size_t kBytesEach = 16;  // up to the highest number that was ever armed

  // Reserves address space, not memory, for ids up to `ids`.
  explicit DeadlineQueue(std::size_t ids);

  using Owner = std::uint8_t;
  // (Re)arms `id` to be due at start + duration, or with its list's last one if that is later.
  void arm(SocketId id, MonoMillis start, std::uint32_t duration_ms, Owner owner = 0);
  void disarm(SocketId id);  // no-op when it isn't armed
  [[nodiscard]] std::optional<Due> next() const;
  [[nodiscard]] std::optional<Due> next_of(Owner owner) const;

  struct Armed {
    MonoMillis deadline = 0;
    std::uint32_t duration_ms = 0;  // of the list that it is in
  };
  [[nodiscard]] std::optional<Armed> armed(SocketId id) const;
  // Due when it was, or with its list's last one if that is later, whatever its list rounds to: to
  // be called in the order of the deadlines.
  void arm_again(SocketId id, const Armed& as_before, Owner owner = 0);

  // Calls `visit` with the longest-armed socket of each list.
  template <typename Visit>
  void for_each_head(Visit visit) const {
    for (std::size_t owner = 0; owner < owners_.size(); ++owner) {
      for_each_head_of(static_cast<Owner>(owner), visit);
    }
  }
  template <typename Visit>
  void for_each_head_of(Owner owner, Visit visit) const {
    if (owner >= owners_.size() || owners_[owner].armed == 0) return;
    for (const List& list : owners_[owner].lists) {
      if (list.head != kNone) visit(SocketId{list.head});
    }
  }

 private:
  static constexpr std::uint32_t kNone = 0xffffffff;
  static constexpr std::uint64_t kUnarmed = 0xff;
  struct Link {
    std::uint32_t prev = kNone;
    std::uint32_t next = kNone;
    std::uint64_t deadline : 48 = 0;
    std::uint64_t owner : 8 = 0;
    std::uint64_t list : 8 = kUnarmed;
  };
  static_assert(sizeof(Link) == kBytesEach);
  struct List {
    std::uint32_t duration_ms = 0;
    std::uint32_t head = kNone;
    std::uint32_t tail = kNone;
  };

  struct Lists {
    std::array<List, kMaxDurations + kRoundedLists> lists;
    std::size_t used = 0;   // of the first kMaxDurations
    std::size_t armed = 0;  // sockets
  };

  static std::size_t list_for(Lists& owned, std::uint32_t duration_ms);
  static std::size_t rounded_list_for(Lists& owned, std::uint32_t duration_ms);
  std::vector<Link> links_;
  std::vector<Lists> owners_;
};

}  // namespace lingerd
