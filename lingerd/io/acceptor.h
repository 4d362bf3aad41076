// SPDX-License-Identifier: Apache-2.0
// The listener, watched; and not for a moment when descriptors or memory have run out: a listener
// that can't be accepted from stays readable.
#pragma once

#include <cstdint>
#include <optional>

#include "base/log_limiter.h"
#include "base/unique_fd.h"
#include "lingerd/io/intake.h"

namespace lingerd {

class Acceptor {
 public:
  // Throws std::system_error if it can't be watched.
  Acceptor(int epoll_fd, UniqueFd listener);

  // It is readable.
  void accept(Intake& intake, std::uint64_t now_ns);
  // Each turn: whether a pause is over.
  void try_again(Intake& intake, std::uint64_t now_ns);
  [[nodiscard]] std::optional<std::uint64_t> wake_ns() const;

  void close();
  [[nodiscard]] int fd() const { return listener_.get(); }

 private:
  int epoll_fd_;
  UniqueFd listener_;
  std::uint64_t again_ns_ = 0;  // nonzero: paused until then
  LogLimiter limiter_;
};

}  // namespace lingerd
