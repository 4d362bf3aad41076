// SPDX-License-Identifier: Apache-2.0
// The state that one lingerd leaves to the next: what must be known of each lingering socket beyond
// its descriptor (parked connections included), and the counters. It travels in a memfd, the
// descriptors beside it (parcel.h), in the same order. Times are CLOCK_MONOTONIC, which goes on.
// Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "contract/counters.h"

namespace lingerd {

inline constexpr std::uint64_t kCarryMagic = 0x4554'4154'5344'474cULL;  // "LGDSTATE" in memory
inline constexpr std::uint32_t kCarryVersion = 3;

// Ways back of parked connections that lingerd knows at the same time: one for each httpd.
inline constexpr std::uint64_t kMostAddresses = 256;

struct CarriedSocket {
  std::uint64_t started_ms = 0;
  std::uint64_t cap_deadline_ms = 0;
  std::uint64_t idle_deadline_ms = 0;
  std::uint32_t cap_ms = 0;        // the duration whose deadline that is
  std::uint32_t idle_wait_ms = 0;  // likewise
  std::uint32_t idle_ms = 0;       // LingerTimeout
  std::uint32_t unsent = 0;
  std::uint16_t quiet_looks = 0;
  std::uint16_t rescued = 0;
  std::uint32_t user = 0;  // of the peer that it came from
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

// A parked connection (parked.h).
struct CarriedParking {
  std::uint64_t arrived_ms = 0;
  std::uint64_t deadline_ms = 0;         // of KeepAliveTimeout; 0 if it is
  std::uint64_t returning_since_ms = 0;  // on its way back, 0: it isn't
  std::uint64_t tag = 0;                 // ReturnRecord::tag
  std::uint32_t keepalives = 0;
  std::uint32_t keepalive_ms = 0;
  std::uint32_t idle_ms = 0;
  std::uint32_t cap_ms = 0;
  std::uint16_t address = 0;   // the way back: which of the addresses that travel beside it
  std::uint16_t over_tls = 0;  // or 1
  std::uint32_t user = 0;      // of the peer that it came from
};
static_assert(sizeof(CarriedParking) == 56);

struct CarriedState {
  std::uint64_t started_ns = 0;  // when the counters began
  DaemonCounters counters;
  std::vector<CarriedSocket> sockets;
  std::vector<CarriedParking> parked;
  std::uint64_t addresses = 0;  // how many descriptors of ways back there are
};

// The counters of an earlier lingerd go on as this one's, but for the limits, which are its own.
void go_on_from(const DaemonCounters& carried, DaemonCounters& ours);

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
