// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/settings.h"

#include <algorithm>
#include <cstdint>
#include <optional>

namespace lingerd {
namespace {

// More in a batch make a system call cheaper, and need more room that lies empty otherwise.
std::uint64_t batch_of(std::uint64_t nofile) {
  return std::clamp<std::uint64_t>(nofile / 16 / kMostInMessage, 1, kMostInBatch);
}

// One user's can be a batch full at once; then no more is received from it for the time being.
std::uint64_t unwanted_of(std::uint64_t nofile) {
  return batch_of(nofile) * kMostInMessage + 32;
}

// What must be free while messages are received: the kernel closes what has no room.
std::uint64_t intake_room(std::uint64_t nofile) {
  return batch_of(nofile) * kMostInMessage + unwanted_of(nofile);
}

// What errands reserve.
std::uint64_t errands_room(std::uint64_t nofile) {
  return nofile < kLeastToReserveFrom ? 0 : kReservedForErrands;
}

}  // namespace

// 1/32 of 20,000 is 625: enough for a prefork httpd of 600 processes. Over a million sockets at
// once are not a configuration but a runaway, whatever the limit of a container.
std::uint32_t most_connections(std::uint64_t nofile) {
  constexpr std::uint64_t kMost = 1'048'576;
  const std::uint64_t reserve =
      std::clamp<std::uint64_t>(nofile / 32, 32, 8192) + intake_room(nofile) + errands_room(nofile);
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(nofile > reserve ? nofile - reserve : 0, 1, kMost));
}

DescriptorShares share_descriptors(std::uint64_t nofile,
                                   std::optional<std::uint32_t> max_connections) {
  constexpr std::uint64_t kOwn = 16;  // epoll, listener, signals, stats page, log, closer
  constexpr std::uint64_t kLeastPeers = 8;
  constexpr std::uint64_t kMostPeers = 65'536;
  const std::uint32_t connections = max_connections.value_or(most_connections(nofile));
  const std::uint64_t taken = connections + kOwn + errands_room(nofile) + intake_room(nofile);
  const std::uint64_t peers =
      std::clamp<std::uint64_t>(nofile > taken ? nofile - taken : 0, kLeastPeers, kMostPeers);
  return {connections, static_cast<std::uint32_t>(peers),
          static_cast<std::uint32_t>(batch_of(nofile)),
          static_cast<std::uint32_t>(unwanted_of(nofile))};
}

}  // namespace lingerd
