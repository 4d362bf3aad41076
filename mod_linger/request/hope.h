// SPDX-License-Identifier: Apache-2.0
// How long a worker waits itself for the rest of a request: what this process has met with lately
// decides. Pure.
//
// Mostly the rest is on its way, and comes before a trip to lingerd would be over. Where it isn't,
// as with a crowd of slow clients, 5 ms for each of them would keep a worker from everybody else.
#pragma once

#include <atomic>
#include <cstdint>

namespace lingerd {

class Hope {
 public:
  static constexpr std::uint32_t kWaitMs = 5;
  static constexpr std::uint32_t kMostInVain = 3;  // in a row
  static constexpr std::uint64_t kRenewedAfterMs = 200;

  [[nodiscard]] std::uint32_t worth_waiting(std::uint64_t now_ms) const {
    const bool in_vain = in_vain_.load(std::memory_order_relaxed) >= kMostInVain;
    const bool lately = now_ms < last_ms_.load(std::memory_order_relaxed) + kRenewedAfterMs;
    return in_vain && lately ? 0 : kWaitMs;
  }
  void came() { in_vain_.store(0, std::memory_order_relaxed); }
  void waited_in_vain(std::uint64_t now_ms) {
    in_vain_.fetch_add(1, std::memory_order_relaxed);
    last_ms_.store(now_ms, std::memory_order_relaxed);
  }

 private:
  // Threads that overtake each other here misjudge one wait.
  std::atomic<std::uint32_t> in_vain_{0};
  std::atomic<std::uint64_t> last_ms_{0};
};

}  // namespace lingerd
