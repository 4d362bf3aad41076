// SPDX-License-Identifier: Apache-2.0
// What a socket's answer means for its linger. Pure decisions; the lingerer acts on them.
#pragma once

#include <cstdint>

namespace lingerd {

// What one look at a socket found, its bytes already discarded.
struct DrainResult {
  enum class State {
    kOpen,          // the client may still send
    kEof,           // the client's FIN: it has everything, and has said so
    kReset,         // RST, or an error that ended the connection
    kNotConnected,  // not a connected socket at all: only a record's first look can find this
  };
  State state = State::kOpen;
  std::uint64_t bytes = 0;
};

// What is left of a linger's patience. A client is silent only while nothing moves: one that still
// takes what the kernel holds for it is alive, although it sends nothing. The kernel says how much
// that is (SIOCOUTQ) but raises no event when it shrinks, so a socket with unsent bytes is looked
// at four times per idle period: that notices a stall at most a quarter of a period late.
inline constexpr std::uint8_t kLooksPerPeriod = 4;

// One byte may be our own FIN, which counts until it is acknowledged: no response is waiting.
// Before the FIN is sent, each byte is the response's.
inline constexpr std::uint8_t kOnlyFin = 1;
inline constexpr std::uint8_t kNoFinYet = 0;

struct Patience {
  std::uint32_t idle_ms = 0;
  std::uint32_t unsent = 0;  // at the last look
  std::uint8_t quiet_looks = 0;
  std::uint8_t fin = kOnlyFin;  // how much of `unsent` may be ours

  [[nodiscard]] constexpr bool taking() const { return unsent > fin; }
  [[nodiscard]] constexpr std::uint32_t wait_ms() const {
    if (!taking()) return idle_ms;
    const std::uint32_t look = idle_ms / kLooksPerPeriod;
    return look == 0 ? 1 : look;
  }
  // Looks that a client which does nothing any more has left, beyond the next one.
  [[nodiscard]] constexpr std::uint32_t looks_after_next() const {
    return taking() && quiet_looks < kLooksPerPeriod ? kLooksPerPeriod - 1U - quiet_looks : 0;
  }
};

enum class IdleVerdict { kWait, kGiveUp };

// The client sent something.
constexpr void note_bytes(Patience& patience) {
  patience.quiet_looks = 0;
}

// wait_ms() has passed without a byte; `unsent` is what the kernel still holds. kWait: look again
// after wait_ms().
[[nodiscard]] constexpr IdleVerdict judge_silence(Patience& patience, std::uint64_t unsent) {
  const std::uint32_t now = unsent > 0xffffffff ? 0xffffffff : static_cast<std::uint32_t>(unsent);
  if (!patience.taking()) return IdleVerdict::kGiveUp;
  const bool moved = now < patience.unsent;
  patience.unsent = now;
  patience.quiet_looks =
      moved ? std::uint8_t{0} : static_cast<std::uint8_t>(patience.quiet_looks + 1);
  return patience.quiet_looks < kLooksPerPeriod ? IdleVerdict::kWait : IdleVerdict::kGiveUp;
}

}  // namespace lingerd
