// SPDX-License-Identifier: Apache-2.0
// No memory is allocated here and no lock taken: the copy is of a moment in which a thread may have
// held any of them.
#include "lingerd/io/closer_process.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "base/clock.h"

namespace lingerd {
namespace {

// Nobody else will: a sibling that is stuck keeps the table that we share, and clients would wait
// for its sake. What isn't a socket nobody waits for.
[[noreturn]] void end_with_all_sockets(int /*signal*/) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  for (rlim_t fd = 0; fd < limit.rlim_cur; ++fd) {
    int type = 0;
    socklen_t size = sizeof type;
    if (getsockopt(static_cast<int>(fd), SOL_SOCKET, SO_TYPE, &type, &size) == 0) {
      close_without_linger(static_cast<int>(fd));
    }
  }
  _exit(0);
}

void wait_for_the_end() {
  struct sigaction ends {};
  ends.sa_handler = end_with_all_sockets;
  sigaction(kCloserEnds, &ends, nullptr);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, kCloserEnds);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  prctl(PR_SET_PDEATHSIG, kCloserEnds);
}

}  // namespace

void close_without_linger(int fd) {
  // As late as possible: a process that has a copy can set it at any time.
  const linger off{};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof off);
  ::close(fd);
}

void run_closer(CloserSlot& slot, int pipe, pid_t parent) {
  prctl(PR_SET_NAME, "lingerd-closer");
  wait_for_the_end();
  if (getppid() != parent) end_with_all_sockets(0);
  for (std::uint32_t closed = 0;; ++closed) {
    int fd = -1;
    ssize_t n = 0;
    do {
      n = read(pipe, &fd, sizeof fd);
    } while (n < 0 && errno == EINTR);
    if (n != sizeof fd) _exit(0);
    slot.since_ns = monotonic_ns();
    slot.card = CloserCard{CloserState::kClosing, closed};
    close_without_linger(fd);
    CloserCard closing{CloserState::kClosing, closed};
    if (!slot.card.compare_exchange_strong(closing, {CloserState::kIdle, closed + 1})) _exit(0);
  }
}

}  // namespace lingerd
