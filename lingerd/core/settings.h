// SPDX-License-Identifier: Apache-2.0
// What a running lingerd goes by, made of its options (configuration.h); and how the descriptors
// that it may have are shared out. Users are numbers. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/unix_limits.h"

namespace lingerd {

struct LoopSettings {
  std::uint32_t max_connections = 0;        // lingering sockets; over it the nearest deadline goes
  std::uint32_t max_peers = 0;              // connections from httpd's children
  std::uint32_t batch = 1;                  // their messages a system call
  std::uint32_t unwanted = 0;               // descriptors that may wait to be closed
  std::uint32_t max_time_ms = 0;            // ceiling over a record's durations, and on SIGTERM
  std::uint64_t offload_memory = 0;         // bytes; at it httpd's workers deliver themselves
  std::uint64_t request_memory = 0;         // bytes of request bodies that may wait in sockets
  std::uint64_t min_rate = 0;               // bytes a second that a delivery must move; 0: none
  std::vector<std::uint32_t> allowed_uids;  // empty: all that the socket's permissions let in
  std::uint64_t watchdog_us = 0;            // 0: none; else sd_notify WATCHDOG=1 at half of it
  std::optional<std::uint32_t> page_owner;  // the stats page is given to it; none: it stays ours
  std::string text;                         // the configuration that says all this, for a successor
};

// How a limit of `nofile` descriptors is shared out.
struct DescriptorShares {
  std::uint32_t max_connections;  // lingering sockets
  std::uint32_t max_peers;        // connections from httpd's children, one each
  std::uint32_t batch;            // messages a system call: there is room for all that they bring
  std::uint32_t unwanted;         // descriptors that a peer sent and that are still to be closed
};
inline constexpr std::uint64_t kLeastDescriptors = 640;

inline constexpr std::size_t kMostInBatch = 16;

// The most that --max-connections may be, and its default: all but a reserve for peers, for
// descriptors on their way in, and for lingerd's own.
[[nodiscard]] std::uint32_t most_connections(std::uint64_t nofile);
[[nodiscard]] DescriptorShares share_descriptors(std::uint64_t nofile,
                                                 std::optional<std::uint32_t> max_connections);

}  // namespace lingerd
