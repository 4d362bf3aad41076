// SPDX-License-Identifier: Apache-2.0
// Why lingerd can't take a socket, and when to try again. Pure.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>

namespace lingerd {

enum class Obstacle : std::uint32_t {
  kNone,
  kDown,          // nothing listens, or it has just gone
  kOtherVersion,  // a lingerd that speaks other records
  kBusy,          // it doesn't keep up, or too many descriptors are in flight
  kGreeting,      // connected, but not welcomed yet
  kDenied,        // permissions of the socket, --allow-user, SELinux
  kRefused,       // of a delivery: it has no room, or no use for what came with it
};

// connect(2) and sendmsg(2) on a Unix socket, unix(7).
[[nodiscard]] constexpr Obstacle obstacle_of(int error) {
  switch (error) {
    case EACCES:
    case EPERM: return Obstacle::kDenied;
    case EAGAIN:        // its queue, or its backlog of connections, is full
    case ETOOMANYREFS:  // descriptors in flight over this user's RLIMIT_NOFILE
    case ENOBUFS:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EINTR: return Obstacle::kBusy;
    default: return Obstacle::kDown;
  }
}

// Waits between connection attempts: doubling, so that a child whose lingerd is away pays one
// system call a second at most, and finds it again within that second.
class Backoff {
 public:
  static constexpr std::uint64_t kFirstNs = 50'000'000;
  static constexpr std::uint64_t kLongestNs = 1'000'000'000;

  [[nodiscard]] bool may_try(std::uint64_t now_ns) const { return now_ns >= again_ns_; }
  void failed(std::uint64_t now_ns) {
    wait_ns_ = wait_ns_ == 0 ? kFirstNs : std::min(wait_ns_ * 2, kLongestNs);
    again_ns_ = now_ns + wait_ns_;
  }
  void reset() { wait_ns_ = again_ns_ = 0; }

 private:
  std::uint64_t wait_ns_ = 0;
  std::uint64_t again_ns_ = 0;
};

}  // namespace lingerd
