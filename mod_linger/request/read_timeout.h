// SPDX-License-Identifier: Apache-2.0
// How long mod_reqtimeout would let a client send a request: in lingerd it gets no longer than that
// either. Pure.
#pragma once

#include <cstdint>
#include <string_view>

namespace lingerd {

// Seconds, bytes a second; 0: no such limit.
struct ReadTimeout {
  std::uint32_t head = 0;
  std::uint32_t body_grace = 0;  // before its rate counts
  std::uint32_t body_rate = 0;
  std::uint32_t body = 0;

  // Both hold.
  void tighten(const ReadTimeout& other);
};

// What RequestReadTimeout says: "header=20-40,MinRate=500 body=20". What it doesn't isn't limited.
[[nodiscard]] ReadTimeout parse_read_timeout(std::string_view arguments);

// Its default.
inline constexpr std::string_view kReadTimeoutByDefault =
    "header=20-40,MinRate=500 body=20,MinRate=500";

}  // namespace lingerd
