// SPDX-License-Identifier: Apache-2.0
// Where clients wait for their late close without a descriptor of the load's: a thread with a
// descriptor table of its own, which has RLIMIT_NOFILE for itself.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <queue>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace ablinger {

class LateTable {
 public:
  // Throws std::system_error.
  LateTable();
  // Closes what still waits.
  ~LateTable();
  LateTable(const LateTable&) = delete;
  LateTable& operator=(const LateTable&) = delete;

  // Has the socket closed at `when`, ns on the steady clock. Sockets travel in batches.
  void take(lingerd::UniqueFd fd, std::int64_t when);
  void send_batch();
  [[nodiscard]] std::uint64_t closed() const { return closed_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::size_t kBatch = 250;  // the kernel lets 253 descriptors travel at once
  struct Late {
    std::int64_t when;
    int fd;
    bool operator>(const Late& other) const { return when > other.when; }
  };

  void run(int receiver);
  [[nodiscard]] bool receive(int receiver);
  void close_due();
  [[nodiscard]] int wait_millis() const;

  lingerd::UniqueFd sender_;
  std::array<lingerd::UniqueFd, kBatch> fds_;
  std::array<std::int64_t, kBatch> times_{};
  std::size_t in_batch_ = 0;

  std::priority_queue<Late, std::vector<Late>, std::greater<>> waiting_;  // the thread's own
  std::atomic<std::uint64_t> closed_{0};
  std::jthread thread_;
};

}  // namespace ablinger
