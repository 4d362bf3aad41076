// SPDX-License-Identifier: Apache-2.0
// Why lingerd can't take a socket, and when to try again. Pure.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "base/errors.h"

namespace lingerd {

enum class Obstacle : std::uint32_t {
  kNone,
  kDown,          // nothing listens, or it has just gone
  kOtherVersion,  // a lingerd that speaks other records
  kBusy,          // it doesn't keep up, or too many descriptors are in flight
  kGreeting,      // connected, but not welcomed yet
  kDenied,        // permissions of the socket, --allow-user, SELinux
  kRefused,       // of a delivery: it has no room, or no use for what came with it; of a socket: it
                  // is none any more, another thread has closed it
};

// What an obstacle means. Those that come and go with single connections, and say nothing of
// lingerd, have a `brief` only.
struct ObstacleWords {
  const char* brief = "";          // why one connection was left to Apache
  const char* warning = nullptr;   // for httpd's log; a format for the socket's path, and for what
                                   // the system, or lingerd, said
  const char* last_hand_off = "";  // for the status page. Not "can't": the next may go better
};
[[nodiscard]] const ObstacleWords& words_of(Obstacle obstacle);

// socket(2), connect(2) and sendmsg(2) of a Unix socket, unix(7).
[[nodiscard]] constexpr Obstacle obstacle_of(int error) {
  if (is_transient(error))
    return Obstacle::kBusy;  // its queue, or its backlog of connections, is full
  switch (error) {
    case EACCES:
    case EPERM:
    case EAFNOSUPPORT:  // socket(2) where a unit's RestrictAddressFamilies= has no AF_UNIX
    case EPROTONOSUPPORT: return Obstacle::kDenied;
    case EBADF: return Obstacle::kRefused;
    case ETOOMANYREFS:  // descriptors in flight over this user's RLIMIT_NOFILE
    case EMFILE:
    case ENFILE: return Obstacle::kBusy;
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
