// SPDX-License-Identifier: Apache-2.0
// What an epoll registration says of its descriptor, in 64 bits: a client's socket its generation
// (below 2^31) in the upper half and its descriptor in the lower; a peer the highest bit and its
// descriptor; what is the loop's own the highest bit and a number in the upper half.
//
// epoll watches the open file description, and Apache's copy of it may outlive ours for a
// moment: EPOLL_CTL_DEL comes before every close, and a client's registration carries a
// generation, so that an event of a socket that has gone isn't taken for its successor's.
#pragma once

#include <cstdint>

#include "lingerd/core/deadlines.h"

namespace lingerd {

inline constexpr std::uint64_t kNotASocket = std::uint64_t{1} << 63;

enum class OwnTag : std::uint64_t {
  kListener = kNotASocket | std::uint64_t{1} << 32,
  kSignals = kNotASocket | std::uint64_t{2} << 32,
  kParking = kNotASocket | std::uint64_t{3} << 32,
  kErrand = kNotASocket | std::uint64_t{4} << 32,
};

constexpr std::uint64_t socket_tag(SocketId id, std::uint32_t generation) {
  return std::uint64_t{generation} << 32 | id;
}
constexpr std::uint64_t peer_tag(int fd) {
  return kNotASocket | static_cast<std::uint32_t>(fd);
}

constexpr bool is_sockets(std::uint64_t tag) {
  return (tag & kNotASocket) == 0;
}
constexpr SocketId socket_of(std::uint64_t tag) {
  return static_cast<SocketId>(tag);
}
constexpr std::uint32_t generation_of(std::uint64_t tag) {
  return static_cast<std::uint32_t>(tag >> 32);
}
constexpr int peer_of(std::uint64_t tag) {
  return static_cast<int>(static_cast<std::uint32_t>(tag));
}

// Watches what is the loop's own for reading. Throws std::system_error.
void watch(int epoll_fd, int fd, OwnTag tag);

}  // namespace lingerd
