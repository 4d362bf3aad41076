// SPDX-License-Identifier: Apache-2.0
// The state that one lingerd leaves to the next: what must be known of each lingering socket beyond
// its descriptor (parked connections included), and the counters. It travels in a memfd, the
// descriptors beside it (parcel.h), each tagged with its place here. What a room knows of a socket
// and has to go on is one struct, which its slots hold and this carries whole. Times are
// CLOCK_MONOTONIC, which goes on. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/delivery.h"
#include "lingerd/core/drain.h"

namespace lingerd {

inline constexpr std::uint64_t kCarryMagic = 0x4554'4154'5344'474cULL;  // "LGDSTATE" in memory
inline constexpr std::uint32_t kCarryVersion = 5;

// Ways back of parked connections that lingerd knows at the same time: one for each httpd.
inline constexpr std::uint64_t kMostAddresses = 256;

using Clock = DeadlineQueue::Armed;

// What is known of a linger beyond its deadlines.
struct Linger {
  MonoMillis started = 0;  // of the hand-off
  Patience patience;
  std::uint8_t rescued = 0;  // 1: something came after the FIN
};

struct CarriedSocket {
  Linger linger;
  Clock cap;               // of one that delivers: the window of its rate
  Clock idle;              // and its stall
  Delivery delivery;       // nothing left: there is none, and its durations are 0
  std::uint32_t user = 0;  // of the peer that it came from

  [[nodiscard]] bool delivers() const { return delivery.content.left != 0; }
};
// Both ends are programs of one machine; on i386 a structure aligns 64 bits to 32.
inline constexpr bool kAligned64 = alignof(CarriedSocket) == 8;
static_assert(sizeof(CarriedSocket) == (kAligned64 ? 128 : 112),
              "another size is another kCarryVersion");

// What is known of a parked connection (parked.h) beyond its deadline.
struct Stay {
  MonoMillis arrived = 0;
  MonoMillis returning_since = 0;  // in line for its way back; 0: it waits for its request
  std::uint64_t tag = 0;           // ReturnRecord::tag
  std::uint32_t keepalives = 0;
  std::uint32_t keepalive_ms = 0;
  std::uint32_t idle_ms = 0;  // of the linger behind it
  std::uint32_t cap_ms = 0;
  WaitedFor waited_for = WaitedFor::kNextRequest;
  Outcome outcome = Outcome::kEarly;  // of a request that is coming, as far as is known

  [[nodiscard]] bool is_requests() const { return waited_for != WaitedFor::kNextRequest; }
  [[nodiscard]] static Stay of(const Handoff& handoff, MonoMillis arrived) {
    return {.arrived = arrived,
            .tag = handoff.ticket,
            .keepalives = handoff.keepalives,
            .keepalive_ms = handoff.stall_ms,
            .idle_ms = handoff.idle_ms,
            .cap_ms = handoff.cap_ms,
            .waited_for = waited_for_by(handoff)};
  }
  // What goes back to httpd with it.
  [[nodiscard]] Return back(MonoMillis now) const {
    const MonoMillis stay_ms = now > arrived ? now - arrived : 0;
    return {keepalives, keepalive_ms, stay_ms * 1'000'000, tag, waited_for, outcome};
  }
};

struct CarriedParking {
  Stay stay;
  MonoMillis deadline_ms = 0;  // of KeepAliveTimeout; 0 if it is on its way back
  std::uint16_t address = 0;   // the way back: which of the addresses that travel beside it
  std::uint16_t over_tls = 0;  // or 1
  std::uint32_t user = 0;      // of the peer that it came from
  AwaitedPart awaited;         // of a request that is coming; stay.keepalive_ms is its timeout
  MonoMillis began = 0;        // likewise, in httpd
};
static_assert(sizeof(CarriedParking) == (kAligned64 ? 104 : 92),
              "another size is another kCarryVersion");

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
