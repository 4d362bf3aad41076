// SPDX-License-Identifier: Apache-2.0
// The event loop: epoll over the listener, the peers, the lingering sockets and the signals. The
// only place that reads the clock.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lingerd/handover.h"
#include "lingerd/unique_fd.h"

namespace lingerd {

struct LoopSettings {
  std::uint32_t max_connections = 0;  // lingering sockets; over it the nearest deadline goes
  std::uint32_t max_peers = 0;        // connections from httpd's children
  std::uint32_t max_time_ms = 0;      // ceiling over a record's durations, and on SIGTERM
  std::uint64_t offload_memory = 0;   // bytes; at it httpd's workers deliver themselves
  std::uint64_t min_rate = 0;         // bytes a second that a delivery must move; 0: none
  std::vector<uid_t> allowed_uids;    // empty: whoever the socket's permissions let in
  std::uint64_t watchdog_us = 0;      // 0: none; else sd_notify WATCHDOG=1 at half of it
};

class Loop {
 public:
  // Takes the listening SOCK_SEQPACKET socket. `stats_path` is where the stats page goes: if it
  // can't be made the loop logs why and runs without one. Throws std::system_error if epoll or
  // signalfd can't be had. SIGTERM, SIGINT, SIGHUP and SIGUSR2 must be blocked by the caller (the
  // loop reads them from a signalfd). `inherited` is what an earlier lingerd left: its sockets,
  // deadlines, counters and peers go on.
  Loop(const LoopSettings& settings, UniqueFd listener, const std::string& stats_path,
       std::optional<Parcel> inherited = std::nullopt);
  ~Loop();

  // Called on SIGHUP; returns the settings to go on with (max_connections, max_time_ms and
  // allowed_uids can change while running; the callback logs what can't).
  void on_reload(std::function<LoopSettings()> reload);

  // Called when the loop is about to wait for the first time, and when it stops taking sockets.
  void on_ready(std::function<void()> ready);
  void on_stopping(std::function<void()> stopping);

  // Called on SIGUSR2 with everything packed: true ends the loop at once, the sockets being the
  // successor's (or the call doesn't return at all); false goes on as if nothing had been.
  void on_replace(std::function<bool(const Parcel&, int listener)> replace);

  // Runs until SIGTERM or SIGINT, then until the last linger has ended or max_time_ms is over; or
  // until on_replace's callback has found a successor.
  void run();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lingerd
