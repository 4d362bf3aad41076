// SPDX-License-Identifier: Apache-2.0
// What unix(7) allows, for code that knows no socket. Pure.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lingerd {

// sun_path has 108 bytes, the last one for the terminating zero.
inline constexpr std::size_t kMaxSocketPath = 107;
// Descriptors in one message: SCM_MAX_FD.
inline constexpr std::size_t kMostInMessage = 253;

// What errands take of the numbers of descriptors (errand.h), where so many may be open.
inline constexpr std::uint64_t kReservedForErrands = 64;
inline constexpr std::uint64_t kLeastToReserveFrom = 8192;

}  // namespace lingerd
