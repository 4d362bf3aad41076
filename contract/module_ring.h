// SPDX-License-Identifier: Apache-2.0
// The module's samples for the charts, in httpd's shared memory: every child counts, any child
// reads. A word holds its slot in the upper half and the count in the lower, so one
// compare-and-swap both opens a new slot and counts in it, and no reader sees a count under the
// wrong slot. Pure.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "contract/stats_page.h"

namespace lingerd {

// What the module samples for the charts: connections handed off and fallen back in each slot of
// kRingSeconds (not running totals). A slot in which nothing happened may be missing.
struct ModuleRingSample {
  std::uint64_t slot = 0;  // CLOCK_MONOTONIC seconds / kRingSeconds; 0: never written
  std::uint64_t handoffs = 0;
  std::uint64_t fallbacks = 0;
};
using ModuleRing = std::array<ModuleRingSample, kRingSamples>;

// Zeroed memory is an empty ring.
class SharedModuleRing {
 public:
  void count_handoff(std::uint64_t now_ns) {
    count(cells_[index(slot_of(now_ns))].handoffs, now_ns);
  }
  void count_fallback(std::uint64_t now_ns) {
    count(cells_[index(slot_of(now_ns))].fallbacks, now_ns);
  }

  // A copy for a Report. The two words of a cell may be of different slots: the older one counts
  // as zero.
  [[nodiscard]] ModuleRing snapshot() const {
    ModuleRing ring;
    for (std::size_t i = 0; i < kRingSamples; ++i) {
      const std::uint64_t handoffs = cells_[i].handoffs.load(std::memory_order_relaxed);
      const std::uint64_t fallbacks = cells_[i].fallbacks.load(std::memory_order_relaxed);
      const std::uint64_t slot = std::max(handoffs >> 32U, fallbacks >> 32U);
      ring[i] = {slot, handoffs >> 32U == slot ? handoffs & kCount : 0,
                 fallbacks >> 32U == slot ? fallbacks & kCount : 0};
    }
    return ring;
  }

 private:
  using Word = std::atomic<std::uint64_t>;
  static_assert(Word::is_always_lock_free, "a lock in shared memory would outlive its owner");
  struct Cell {
    Word handoffs;
    Word fallbacks;
  };
  static constexpr std::uint64_t kCount = 0xffff'ffff;

  static std::uint64_t slot_of(std::uint64_t now_ns) {
    return now_ns / (kRingSeconds * 1'000'000'000U);
  }
  static std::size_t index(std::uint64_t slot) { return slot % kRingSamples; }

  static void count(Word& word, std::uint64_t now_ns) {
    const std::uint64_t slot = slot_of(now_ns);
    std::uint64_t seen = word.load(std::memory_order_relaxed);
    while (true) {
      if (seen >> 32U > slot) return;  // a child with a later clock was here: our slot is gone
      const std::uint64_t next = seen >> 32U == slot ? seen + 1 : (slot << 32U) + 1;
      if (word.compare_exchange_weak(seen, next, std::memory_order_relaxed)) return;
    }
  }

  std::array<Cell, kRingSamples> cells_{};
};

}  // namespace lingerd
