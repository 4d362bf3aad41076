// SPDX-License-Identifier: Apache-2.0
#include "base/errand.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <functional>
#include <limits>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/shared_table.h"
#include "base/unique_fd.h"
#include "base/unix_limits.h"

namespace lingerd {
namespace {

constexpr int kOut = STDERR_FILENO + 1;
constexpr std::size_t kMostText = 1 << 20;
constexpr std::uint64_t kLookAgainNs = 5'000'000;  // the answer is complete, the child is ending

std::vector<pid_t>& left_over() {
  static std::vector<pid_t> pids;
  return pids;
}

// The signals that lingerd blocks or ignores are for lingerd.
void own_signals() {
  sigset_t none;
  sigemptyset(&none);
  for (const int signal : {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2}) {
    std::signal(signal, SIG_DFL);
  }
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

// The last of what reserve() took; -1: nothing. While a child shares the table, the end of the pipe
// that it writes to is there.
int reserved = -1;
// All numbers below this one are taken, for good.
int low_end = static_cast<int>(kReservedForErrands);

// A descriptor that is in nobody's way. -1: there is none.
int placeholder() {
  return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

bool leave_the_table(int first) {
#ifdef CLOSE_RANGE_UNSHARE
  return syscall(SYS_close_range, static_cast<unsigned>(first), UINT_MAX, CLOSE_RANGE_UNSHARE) == 0;
#else
  return false;
#endif
}

// Nothing may be done to the table before it is this process's own.
void part_with_descriptors(int answer, bool shares_table) {
  if (shares_table) {
    if (!leave_the_table(low_end)) _exit(EXIT_FAILURE);
    const char parted = 0;
    if (write(answer, &parted, sizeof parted) != sizeof parted) _exit(EXIT_FAILURE);
  }
  dup2(answer, kOut);
  fcntl(kOut, F_SETFD, FD_CLOEXEC);
  close_from(kOut + 1);
}

[[noreturn]] void be_the_child(int answer, pid_t parent, bool shares_table,
                               const std::function<int(int)>& work) {
  part_with_descriptors(answer, shares_table);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(EXIT_FAILURE);
  own_signals();
  int status = EXIT_FAILURE;
  try {
    status = work(kOut);
  } catch (const std::exception&) {
    status = EXIT_FAILURE;
  }
  _exit(status);
}

}  // namespace

namespace {

bool close_between(int first, unsigned last) {
#ifdef SYS_close_range
  return static_cast<unsigned>(first) > last ||
         syscall(SYS_close_range, static_cast<unsigned>(first), last, 0U) == 0;
#else
  return false;
#endif
}

}  // namespace

void close_from(int first, std::vector<int> keeps) {
  std::ranges::sort(keeps);
  int next = first;
  bool done = true;
  for (const int kept : keeps) {
    if (kept < next) continue;
    done = done && close_between(next, static_cast<unsigned>(kept) - 1);
    next = kept + 1;
  }
  if (done && close_between(next, UINT_MAX)) return;
  // An older kernel, or a filter that doesn't know the call.
  std::vector<int> open;
  if (DIR* directory = opendir("/proc/self/fd")) {
    while (const dirent* entry = readdir(directory)) open.push_back(std::atoi(entry->d_name));
    closedir(directory);
  }
  for (const int fd : open) {
    if (fd >= first && !std::ranges::binary_search(keeps, fd)) close(fd);
  }
}

// All numbers below a multiple of 64: before Linux 6.11 the new table is made of whole words of 64,
// and what is in the range is closed in it. Some may be taken already, by what the program that
// started this one has left open.
void Errand::reserve(std::uint64_t nofile) {
  if (nofile < kLeastToReserveFrom) return;
  if (!leave_the_table(std::numeric_limits<int>::max())) return;  // an empty range: a question
  int last = -1;
  while (last + 1 != low_end) {
    UniqueFd fd(placeholder());
    if (!fd) return;
    if (fd.get() >= low_end && last >= 0) break;
    while (fd.get() >= low_end) low_end += static_cast<int>(kReservedForErrands);
    last = fd.release();
  }
  reserved = last;
}

bool Errand::closes_nothing() {
  return reserved >= 0;
}

Errand Errand::start(std::uint64_t now_ns, const std::function<int(int out)>& work) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw std::system_error(errno, std::system_category(), "pipe");
  }
  UniqueFd answer(ends[0]);
  const UniqueFd out(ends[1]);
  fcntl(answer.get(), F_SETFL, O_NONBLOCK);
  const pid_t self = getpid();
  const bool shares = closes_nothing() && dup3(out.get(), reserved, O_CLOEXEC) >= 0;
  const pid_t child = shares ? fork_with_our_descriptors() : fork();
  if (child < 0) throw std::system_error(errno, std::system_category(), "fork");
  if (child == 0) be_the_child(shares ? reserved : out.get(), self, shares, work);
  return {child, std::move(answer), now_ns + kPatienceNs, shares};
}

void Errand::take(std::string_view part) {
  if (shares_table_ && !part.empty()) {
    // It has a table of its own: only from now on its end is the end of the answer.
    shares_table_ = false;
    const UniqueFd other(placeholder());
    dup3(other.get(), reserved, O_CLOEXEC);
    part.remove_prefix(1);
  }
  text_.append(part.substr(0, kMostText - std::min(kMostText, text_.size())));
}

Errand::Errand(Errand&& other) noexcept
    : child_(std::exchange(other.child_, 0)),
      answer_(std::move(other.answer_)),
      deadline_ns_(other.deadline_ns_),
      shares_table_(other.shares_table_),
      text_(std::move(other.text_)) {}

Errand::~Errand() {
  if (child_ == 0) return;
  kill(child_, SIGKILL);
  leave_to_reap(child_);
}

void Errand::leave_to_reap(pid_t child) {
  left_over().push_back(child);
  reap();
}

void Errand::reap() {
  std::erase_if(left_over(), [](pid_t pid) {
    const pid_t gone = waitpid(pid, nullptr, WNOHANG);
    return gone == pid || (gone < 0 && errno == ECHILD);
  });
}

std::uint64_t Errand::wake_ns(std::uint64_t now_ns) const {
  return answer_ ? deadline_ns_ : std::min(deadline_ns_, now_ns + kLookAgainNs);
}

std::optional<Errand::Answer> Errand::collect(std::uint64_t now_ns) {
  std::array<char, 4096> buffer{};
  while (answer_) {
    const ssize_t n = read(answer_.get(), buffer.data(), buffer.size());
    if (n > 0) {
      take({buffer.data(), static_cast<std::size_t>(n)});
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    answer_.reset();
  }
  int status = 0;
  if (!answer_ && waitpid(child_, &status, WNOHANG) == child_) {
    child_ = 0;
    return Answer{WIFEXITED(status) ? WEXITSTATUS(status) : kKilled, std::move(text_)};
  }
  if (now_ns < deadline_ns_) return std::nullopt;
  return Answer{kTimedOut, std::move(text_)};
}

}  // namespace lingerd
