// SPDX-License-Identifier: Apache-2.0
// The state that one lingerd leaves to the next: what must be known of each lingering socket beyond
// its descriptor, and the counters. It travels in a memfd, the descriptors beside it (handover.h),
// in the same order. Times are CLOCK_MONOTONIC, which goes on. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lingerd/counters.h"

namespace lingerd {

inline constexpr std::uint64_t kCarryMagic = 0x4554'4154'5344'474cULL;  // "LGDSTATE" in memory
inline constexpr std::uint32_t kCarryVersion = 1;

struct CarriedSocket {
  std::uint64_t started_ms = 0;
  std::uint64_t cap_deadline_ms = 0;
  std::uint64_t idle_deadline_ms = 0;
  std::uint32_t cap_ms = 0;        // the duration whose deadline that is
  std::uint32_t idle_wait_ms = 0;  // likewise
  std::uint32_t idle_ms = 0;       // LingerTimeout
  std::uint32_t unsent = 0;
  std::uint32_t quiet_looks = 0;
  std::uint32_t rescued = 0;
  // A delivery: what is left of its content, 0 if it has none, and the linger behind it.
  std::uint64_t content_offset = 0;
  std::uint64_t content_left = 0;
  std::uint64_t content_memory = 0;
  std::uint64_t window_left = 0;
  std::uint32_t linger_idle_ms = 0;
  std::uint32_t linger_cap_ms = 0;

  [[nodiscard]] bool delivers() const { return content_left != 0; }
};
static_assert(sizeof(CarriedSocket) == 88);

struct CarriedState {
  std::uint64_t started_ns = 0;  // when the counters began
  DaemonCounters counters;
  std::vector<CarriedSocket> sockets;
};

[[nodiscard]] std::vector<std::byte> encode(const CarriedState& state);

enum class CarryResult {
  kOk,
  kGarbage,       // no state of ours, cut off, or with values that none of ours has
  kOtherVersion,  // of another lingerd
};

// Fills `out` only on kOk. `now_ms`: no deadline may be further away than a linger can be.
[[nodiscard]] CarryResult decode(std::span<const std::byte> bytes, std::uint64_t now_ms,
                                 CarriedState& out);

}  // namespace lingerd
