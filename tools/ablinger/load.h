// SPDX-License-Identifier: Apache-2.0
// The load of one thread: a fixed number of slots, each with at most one request under way, and the
// connections that have their response and stay open. One epoll, level-triggered and one-shot: a
// connection costs one epoll_ctl and one event in the common case, and its close takes it out.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <queue>
#include <random>
#include <vector>

#include "base/unique_fd.h"
#include "tools/ablinger/connection.h"
#include "tools/ablinger/late_table.h"
#include "tools/ablinger/options.h"
#include "tools/ablinger/results.h"
#include "tools/ablinger/transport.h"

namespace ablinger {

struct Share {  // of a thread
  unsigned slots = 1;
  std::uint64_t requests = 0;  // 0: no limit
  std::uint64_t max_late = 0;
  double rate = 0;  // 0: no limit
  unsigned seed = 0;
};

class Load {
 public:
  Load(const Options& options, const Share& share);
  // Until the requests or the time are over, or somebody sets `stop`.
  [[nodiscard]] Results run(const std::atomic<bool>& stop);

 private:
  enum class Due { kRelease, kStart, kStep, kClose, kTrickle, kAskAgain, kSweep };
  struct Timer {
    std::int64_t when;
    Due due;
    unsigned index;  // a slot for kRelease and kStart, else a descriptor
    std::uint32_t serial;
    bool operator>(const Timer& other) const { return when > other.when; }
  };

  void release(unsigned slot, std::int64_t now);
  void start(unsigned slot, std::int64_t now);
  void advance(Connection& connection, std::int64_t now);
  void settle(Connection& connection, Connection::Outcome outcome, std::int64_t now);
  void on_response(Connection& connection);
  void go_on(Connection& connection, std::int64_t now);
  void become_late(Connection& connection, std::int64_t now);
  void on_failure(Connection& connection, Error error, std::int64_t now);
  void put_aside(Connection& connection, std::int64_t now);
  void serve_late_tables();
  void let_one_go_on(std::int64_t now);
  void end_late(Connection& connection, std::int64_t now, bool cut_short);
  void watch(Connection& connection);
  void read_later(Connection& connection, std::int64_t now);

  void set_timer(Connection& connection, Due due, std::int64_t when);
  void expire(std::int64_t now);
  void fire(const Timer& timer, std::int64_t now);
  void sweep(std::int64_t now);
  [[nodiscard]] bool finished(std::int64_t now) const;
  [[nodiscard]] int wait_millis(std::int64_t now) const;

  const Options& options_;
  const Share share_;
  Script script_;
  Target target_;
  lingerd::UniqueFd epoll_;
  std::vector<Connection> connections_;  // by descriptor
  std::priority_queue<Timer, std::vector<Timer>, std::greater<>> timers_;
  std::deque<unsigned> held_back_;  // slots that wait for late connections to go
  std::deque<LateTable> late_tables_;
  std::size_t next_table_ = 0;
  std::minstd_rand random_;
  Results results_;
  std::uint64_t asked_ = 0;
  std::uint64_t late_ = 0;
  unsigned idle_slots_ = 0;  // done for good
  std::int64_t count_from_ = 0;
  std::int64_t end_ = 0;
  std::int64_t next_start_ = 0;
  std::int64_t last_response_ = 0;
};

}  // namespace ablinger
