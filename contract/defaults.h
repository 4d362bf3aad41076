// SPDX-License-Identifier: Apache-2.0
// What holds where nothing is configured, for both sides.
#pragma once

#include <cstdint>

namespace lingerd {

// lingerd's --socket, lingerctl's, and LingerSocket.
inline constexpr char kDefaultSocket[] = "/run/lingerd/lingerd.sock";

// LingerTimeout and LingerTime.
inline constexpr std::uint32_t kDefaultIdleMs = 5'000;
inline constexpr std::uint32_t kDefaultCapMs = 30'000;

}  // namespace lingerd
