// SPDX-License-Identifier: Apache-2.0
// The monotonic clock: the one of every time in records, in the stats page and in carried state.
#pragma once

#include <cstdint>
#include <ctime>

namespace lingerd {

// CLOCK_MONOTONIC in nanoseconds. It goes on over an exec and in forked processes.
[[nodiscard]] inline std::uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace lingerd
