// SPDX-License-Identifier: Apache-2.0
// The event loop: epoll over the listener, the peers, the lingering sockets and the signals. What
// it is told to do it leaves to its caller: run() returns with the order, and goes on when it is
// called again.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/errand.h"
#include "base/unique_fd.h"
#include "contract/counters.h"
#include "lingerd/core/capacity.h"
#include "lingerd/core/lingerer.h"
#include "lingerd/core/settings.h"
#include "lingerd/io/intake.h"
#include "lingerd/io/orders.h"
#include "lingerd/io/parking.h"

namespace lingerd {

class Loop {
 public:
  // Takes the listening SOCK_SEQPACKET socket. `stats_path` is where the stats page goes: if it
  // can't be made the loop logs why and runs without one. `started_ns`: when an earlier lingerd's
  // counters began that go on here; 0: now. `manager` as in Orders. Throws std::system_error if
  // epoll or signalfd can't be had.
  Loop(const LoopSettings& settings, UniqueFd listener, const std::string& stats_path,
       std::uint64_t started_ns, pid_t manager);
  ~Loop();

  // The page appears at its path; then, before run(), what helps the loop starts.
  void show_page();
  void begin();

  // Nothing: a stop is over, and so is the loop.
  [[nodiscard]] std::optional<Order> run();

  // An errand for kReload or kReplace; kAnswer says that it is over.
  void send(const std::function<Errand()>& errand);
  [[nodiscard]] const Errand::Answer& answer() const;

  // Goes on with other settings: all but max_peers, batch, unwanted, watchdog_us and page_owner.
  void apply(const LoopSettings& fresh);

  // Takes no more sockets, and runs until the last linger has ended, or max_time_ms is over. A
  // second time: until now.
  void begin_stop();
  [[nodiscard]] bool stopping() const;
  // Everything is a successor's: all that is left is this process's end.
  void leave();

  // What a successor takes over.
  struct Holdings {
    DaemonCounters& counters;
    Capacity& capacity;
    Lingerer& lingerer;
    Parking& parking;
    Intake& intake;
  };
  [[nodiscard]] Holdings holdings();
  [[nodiscard]] const LoopSettings& settings() const;
  [[nodiscard]] int listener() const;
  [[nodiscard]] std::uint64_t started_ns() const;
  [[nodiscard]] std::uint64_t now() const;  // CLOCK_MONOTONIC, of this turn
  // Puts the numbers of this moment on the page.
  void publish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lingerd
