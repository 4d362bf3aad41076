// SPDX-License-Identifier: Apache-2.0
// Processes that share a descriptor table and nothing else.
#pragma once

#include <sched.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <csignal>

namespace lingerd {

// As fork(2), but with one descriptor table for both: what either opens or closes, the other does.
// No handler of pthread_atfork(3) runs.
[[nodiscard]] inline pid_t fork_with_our_descriptors() {
  return static_cast<pid_t>(
      syscall(SYS_clone, CLONE_FILES | SIGCHLD, nullptr, nullptr, nullptr, 0));
}

}  // namespace lingerd
