// SPDX-License-Identifier: Apache-2.0
// A thread of an httpd child that sends on what clients haven't taken while the handlers compute,
// sleep, or wait for something themselves. It exists from the first time that it is needed, touches
// nothing of httpd's, and a child that ends doesn't wait for it.
//
// Nothing rests while a handler works. A FLUSH is a promise to the client, and a handler that
// computes, waits for its backend or reads the request's body makes no promise when it writes
// again. So this thread sends the rest on. It has all signals blocked, uses memory and
// descriptors of its own only, and never waits for a worker: a rest that is being written to is
// looked at again 10 ms later. The module is pinned in memory for it. After a fork it is
// missing, and a process that needs it makes one of its own. A process that may change its user
// has none (capabilities belong to threads, and glibc's setuid aborts where they differ): its
// worker waits as the core's filter does. A timer starts it, so a handler that is through within
// 10 ms costs no wake-up.
#pragma once

#include <cstdint>
#include <memory>

#include "mod_linger/offload/rest.h"

namespace lingerd {

// A handler that writes again within this time sends by itself.
constexpr std::uint64_t kSenderPauseNs = 10'000'000;

// The sender begins with it at `due_ns` (CLOCK_MONOTONIC), or goes on with it if it has begun. The
// caller holds the rest's mutex. False: this process can have no sender.
[[nodiscard]] bool let_sender_begin(const std::shared_ptr<Rest>& rest, std::uint64_t due_ns);

// The sender touches it no more. The caller does not hold the rest's mutex.
void take_from_sender(const std::shared_ptr<Rest>& rest);

}  // namespace lingerd
