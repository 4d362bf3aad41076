// SPDX-License-Identifier: Apache-2.0
// The rest of one response, which its worker and the sender share: the one that holds the mutex may
// write to the client's socket. Knows nothing of httpd.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "base/unique_fd.h"
#include "mod_linger/offload/rest_bytes.h"

namespace lingerd {

struct Rest {
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};

  // Null: no memory.
  static std::shared_ptr<Rest> make(std::uint64_t timeout_ns);

  // A copy of the descriptor: its number stays this connection's, also when httpd's own is closed.
  [[nodiscard]] bool hold_socket(int fd);
  // Whether this process made it. One that was forked meanwhile has no sender, and no say.
  [[nodiscard]] bool is_ours() const;

  // Sends what the socket takes, as RestBytes::send; what is found wrong stays in `error`.
  RestBytes::Result send(std::uint64_t now_ns);
  // The client is lost, or the response can't be completed: nothing is left to send.
  void fail(int why);

  std::mutex mutex;  // of all but the atomics
  RestBytes bytes;
  UniqueFd socket;
  int error = 0;           // errno
  bool withdrawn = false;  // from the sender, for good
  // When the sender shall begin with it; kNever: there is nothing to send.
  std::atomic<std::uint64_t> due_ns{kNever};
  std::atomic<std::uint64_t> moved_ns{0};  // when the client last took something
  std::uint64_t timeout_ns = 0;            // without that, until it is given up
  pid_t process = 0;
};

}  // namespace lingerd
