// SPDX-License-Identifier: Apache-2.0
// What the loop and its guard (guard.h) share: which parked connections wait, and whose turn it is
// with each. Nothing here waits: a connection is claimed by one compare-and-exchange, so that it
// goes home once, whichever of the two stands still at whatever moment. Lies in memory that both
// processes map; zeroed to begin with.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "lingerd/core/carry.h"

namespace lingerd {

struct GuardedSlot {
  enum State : std::uint32_t {
    kFree,
    kWaiting,  // parked
    kLoops,    // the loop does something with it
    kGuards,   // the guard does
    kHome,     // the guard has sent it: the loop lets go of its copy
  };
  std::atomic<std::uint32_t> state{kFree};
  std::int32_t way = -1;  // descriptor of its way back
  Stay stay;

  [[nodiscard]] bool move(State from, State to) {
    std::uint32_t expected = from;
    return state.compare_exchange_strong(expected, to);
  }
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

// Records of idle connections that lie unread in a peer's queue can't be claimed there: the one
// of both that wants one enters its key here first. The loop only has to while the guard is at it,
// or was. Keys are never taken out, but all at once while there is no guard.
class ClaimedRecords {
 public:
  static constexpr std::size_t kMost = std::size_t{1} << 16;

  enum class Claim { kFirst, kTaken, kFull };
  [[nodiscard]] Claim claim(std::uint64_t key) {
    for (std::size_t i = 0; i < kMost; ++i) {
      std::atomic<std::uint64_t>& place = keys_[(key + i) % kMost];
      std::uint64_t there = place.load();
      if (there == 0) {
        if (used_.load() >= kMost / 2) return Claim::kFull;
        if (place.compare_exchange_strong(there, key)) {
          ++used_;
          return Claim::kFirst;
        }
      }
      if (there == key) return Claim::kTaken;
    }
    return Claim::kFull;
  }
  [[nodiscard]] bool has(std::uint64_t key) const {
    for (std::size_t i = 0; i < kMost; ++i) {
      const std::uint64_t there = keys_[(key + i) % kMost].load();
      if (there == key) return true;
      if (there == 0) return false;
    }
    return false;
  }
  [[nodiscard]] std::size_t used() const { return used_.load(); }
  void clear() {
    for (std::atomic<std::uint64_t>& key : keys_) key.store(0);
    used_.store(0);
  }

 private:
  std::atomic<std::size_t> used_{0};
  std::array<std::atomic<std::uint64_t>, kMost> keys_{};
};

// Copies of what a peer has sent that the guard has found unfit, and may not close: that may take
// for ever. They are the loop's, by number, once they are in here. One writes, one reads.
class LeftCopies {
 public:
  static constexpr std::size_t kMost = 1024;
  struct Copy {
    std::int32_t fd = -1;
    std::uint32_t user = 0;
  };
  [[nodiscard]] bool has_room_for(std::size_t more) const {
    return left_.load() - taken_.load() + more <= kMost;
  }
  void leave(const Copy& copy) {
    copies_[left_.load() % kMost] = copy;
    ++left_;
  }
  [[nodiscard]] bool take(Copy& copy) {
    const std::uint64_t at = taken_.load();
    if (at == left_.load()) return false;
    copy = copies_[at % kMost];
    ++taken_;
    return true;
  }

 private:
  std::atomic<std::uint64_t> left_{0};
  std::atomic<std::uint64_t> taken_{0};
  std::array<Copy, kMost> copies_{};
};

struct GuardTable {
  enum Phase : std::uint32_t {
    kWatches,
    kActs,     // the loop stands still: records in queues have to be claimed
    kHasActed  // some of the records that come now may have been claimed
  };
  std::atomic<std::uint64_t> beats{0};   // of the loop
  std::atomic<std::uint64_t> sent{0};    // by the guard, parked ones
  std::atomic<std::uint64_t> unread{0};  // by the guard, from queues
  std::atomic<std::uint32_t> phase{kWatches};
  std::atomic<std::uint32_t> end{0};  // above the highest number of a slot that has been used
  ClaimedRecords records;
  LeftCopies copies;
  // Behind it: `size` slots, by descriptor.
};

// Which record of an idle connection it is, by the socket's cookie and the time of its hand-off.
[[nodiscard]] constexpr std::uint64_t record_key(std::uint64_t cookie,
                                                 std::uint64_t handed_off_ns) {
  const std::uint64_t key = (cookie * 0x9e37'79b9'7f4a'7c15ULL) ^ handed_off_ns;
  return key != 0 ? key : 1;
}

}  // namespace lingerd
