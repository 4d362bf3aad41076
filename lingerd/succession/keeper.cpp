// SPDX-License-Identifier: Apache-2.0
#include "lingerd/succession/keeper.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <system_error>
#include <utility>

#include "base/errand.h"

namespace lingerd {
namespace {

constexpr char kServing = 'S';

// Ready to be read, in time.
bool readable(int fd, int timeout_ms) {
  pollfd wait{fd, POLLIN, 0};
  int ready = 0;
  do {
    ready = poll(&wait, 1, timeout_ms);
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

// Dead, whatever it was at: only then no other process can touch a socket. By a
// descriptor where there are such (Linux 5.3), because a process id may be used again.
void end_for_good(int process, pid_t pid) {
  if (process < 0) {
    while (getppid() == pid && kill(pid, SIGKILL) == 0) {
      const timespec pause{0, 10'000'000};
      nanosleep(&pause, nullptr);
    }
    return;
  }
  syscall(SYS_pidfd_send_signal, process, SIGKILL, nullptr, 0U);
  (void)readable(process, -1);
}

[[noreturn]] void keep(const UniqueFd& line, pid_t successor,
                       const std::function<void(const std::string&)>& go_on) {
  prctl(PR_SET_NAME, "lingerd-keeper");
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, successor, 0U)));
  const bool gone = getppid() != successor;  // and the descriptor may be another process's
  const bool in_time = gone || readable(line.get(), Keeper::kPatienceMs);
  // Its word after this would find nobody, and it would know; one that came before counts.
  shutdown(line.get(), SHUT_RD);
  char word = 0;
  if (recv(line.get(), &word, sizeof word, MSG_DONTWAIT) == 1 && word == kServing) {
    _exit(EXIT_SUCCESS);
  }
  if (!gone) end_for_good(process.get(), successor);
  go_on(in_time ? "it ended before it served"
                : "it didn't serve within " + std::to_string(Keeper::kPatienceMs / 1000) + " s");
  _exit(EXIT_FAILURE);
}

}  // namespace

Keeper::Keeper(std::vector<int> keeps, const std::function<void(const std::string& why)>& go_on) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw std::system_error(errno, std::system_category(), "socketpair");
  }
  const UniqueFd its_end(ends[0]);
  line_.reset(ends[1]);
  const pid_t self = getpid();
  child_ = fork();
  if (child_ < 0) throw std::system_error(errno, std::system_category(), "fork");
  if (child_ > 0) return;
  (void)line_.release();  // closed with all others
  keeps.push_back(its_end.get());
  close_from(STDERR_FILENO + 1, std::move(keeps));
  keep(its_end, self, go_on);
}

Keeper::~Keeper() {
  kill(child_, SIGKILL);
  Errand::leave_to_reap(child_);
}

// What has been sent will be read: nothing to wait for. If it can't be sent, the keeper has been
// killed, which is no reason to stop, or is about to kill this process: then this waits for it.
void Keeper::dismiss(UniqueFd line, pid_t keeper) {
  if (!line) return;
  char word = kServing;
  if (send(line.get(), &word, sizeof word, MSG_NOSIGNAL) < 0) {
    while (recv(line.get(), &word, sizeof word, 0) < 0 && errno == EINTR) {
    }
  }
  Errand::leave_to_reap(keeper);
}

}  // namespace lingerd
