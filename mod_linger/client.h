// SPDX-License-Identifier: Apache-2.0
// This child's connection to lingerd: opened when the child starts, shared by its threads, reopened
// when it breaks. Never blocks after the child's start.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "lingerd/record.h"
#include "lingerd/unique_fd.h"
#include "mod_linger/obstacle.h"

namespace lingerd {

class Client {
 public:
  // How an attempt ended. `fresh`: found out just now, not remembered from an earlier attempt.
  struct Result {
    Obstacle obstacle = Obstacle::kNone;
    int error = 0;  // errno, 0 when a greeting said so
    bool fresh = false;
  };

  // `path` must outlive the client.
  explicit Client(const char* path);

  // Connects, and waits up to kGreetingWaitMs for the greeting.
  Result start(std::uint64_t now_ns);

  // Sends the socket. kNone: lingerd has it. Thread-safe. `times_up` is Tally::times_up().
  Result hand_off(int socket, const Handoff& handoff, std::uint64_t now_ns, std::uint64_t times_up);

 private:
  static constexpr int kGreetingWaitMs = 250;
  static constexpr std::uint64_t kGreetingPatienceNs = 3'000'000'000;  // as for a stale heartbeat
  enum class State { kDisconnected, kGreeting, kReady };

  Result send(int socket, const Handoff& handoff);
  Result make_ready(std::uint64_t now_ns, std::uint64_t times_up);
  Result connect(std::uint64_t now_ns);
  Result read_greeting(std::uint64_t now_ns);
  Result disconnect(Result why, std::uint64_t now_ns);

  const char* path_;
  // The number never changes: a connection is replaced under it with dup3(), so that a thread in
  // sendmsg() can't meet a number that has meanwhile become another file's.
  UniqueFd fd_;
  std::atomic<State> state_{State::kDisconnected};
  std::mutex mutex_;  // of all below
  Result last_;       // why there is no connection, or the one before had failed
  Backoff backoff_;
  std::uint64_t connected_ns_ = 0;
  std::uint64_t times_up_ = 0;  // at the last failure
};

}  // namespace lingerd
