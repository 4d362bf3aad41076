// SPDX-License-Identifier: Apache-2.0
// Lets one line through each period and counts the rest, so that a peer can't fill a disk. Pure.
#pragma once

#include <cstdint>
#include <optional>

namespace lingerd {

class LogLimiter {
 public:
  static constexpr std::uint64_t kPeriodMs = 10'000;

  // The number of lines held back since the last one that was let through, or nothing: hold back.
  [[nodiscard]] std::optional<std::uint64_t> allow(std::uint64_t now_ms) {
    if (used_ && now_ms < last_ms_ + kPeriodMs) {
      ++held_back_;
      return std::nullopt;
    }
    used_ = true;
    last_ms_ = now_ms;
    const std::uint64_t held_back = held_back_;
    held_back_ = 0;
    return held_back;
  }

 private:
  bool used_ = false;
  std::uint64_t last_ms_ = 0;
  std::uint64_t held_back_ = 0;
};

}  // namespace lingerd
