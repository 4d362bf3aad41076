// SPDX-License-Identifier: Apache-2.0
// What lingerd is told while it runs: signals, and what comes of the errands that they cause. One
// errand at a time.
#pragma once

#include <sys/signalfd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <functional>
#include <optional>

#include "base/errand.h"
#include "base/log_limiter.h"
#include "base/unique_fd.h"

namespace lingerd {

// What the loop reads from a descriptor. All others that would end the process are ignored.
inline constexpr std::array kLoopSignals{SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2};

enum class Order {
  kReload,          // SIGHUP
  kReplace,         // SIGUSR2
  kReplaceAndStop,  // the same from the manager that started lingerd, which waits for its end
  kAnswer,          // the errand is over
  kStop,            // SIGTERM, SIGINT or SIGQUIT
};

class Orders {
 public:
  // Registers itself with `epoll_fd`. The signals of kLoopSignals must be blocked. `manager`: whose
  // SIGUSR2 is kReplaceAndStop; 0: nobody's. Throws std::system_error if signalfd can't be had.
  Orders(int epoll_fd, pid_t manager);

  // The signals' descriptor is readable.
  void read_signals(std::uint64_t now_ns);

  // Runs what may take long; its answer is an order. What can't be started is answered as killed.
  void send(const std::function<Errand()>& errand);
  // No errand's answer is of interest any more.
  void forget_errand();

  // Each once, kStop first. A reload or a successor that is asked for while an errand runs waits
  // for its end: it may have to see a later file.
  [[nodiscard]] std::optional<Order> next(std::uint64_t now_ns);
  // After kAnswer.
  [[nodiscard]] const Errand::Answer& answer() const { return answer_; }

  // When next() has to be called at the latest; nothing: no errand runs.
  [[nodiscard]] std::optional<std::uint64_t> wake_ns(std::uint64_t now_ns) const;

 private:
  void take(const signalfd_siginfo& info, std::uint64_t now_ns);

  int epoll_fd_;
  pid_t manager_;
  UniqueFd signals_;
  std::optional<Errand> errand_;
  std::optional<Errand::Answer> unread_;
  Errand::Answer answer_;
  bool stop_ = false;
  bool reload_ = false;
  bool replace_ = false;
  bool replace_and_stop_ = false;
  LogLimiter usr1_limiter_;
};

}  // namespace lingerd
