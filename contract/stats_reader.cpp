// SPDX-License-Identifier: Apache-2.0
#include "contract/stats_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "base/numbers.h"
#include "base/unique_fd.h"
#include "contract/stats_page.h"

namespace lingerd {
namespace {

// A torn copy is read again: at once, then with short pauses for a writer that the scheduler took
// off its processor while it wrote. Together under 3 ms.
constexpr int kTries = 24;
constexpr int kTriesAtOnce = 4;
constexpr long kPauseNanos = 100'000;

using Copy = std::array<std::byte, sizeof(StatsPage)>;

DaemonStatus down(StatsProblem why, std::string problem) {
  DaemonStatus status;
  status.why = why;
  status.problem = std::move(problem);
  return status;
}

// The page is gone but the socket isn't: systemd's, as a rule, which listens on.
bool socket_is_there(const std::string& stats_path) {
  struct stat st {};
  const std::string socket = stats_path.substr(0, stats_path.rfind('.'));
  return ::stat(socket.c_str(), &st) == 0 && S_ISSOCK(st.st_mode);
}

DaemonStatus cannot_open(const std::string& path, int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      if (socket_is_there(path)) {
        return down(StatsProblem::kNoPage,
                    "there is no " + path +
                        ": not running, but its socket is there, so systemd starts it when httpd's "
                        "next connection closes");
      }
      return down(StatsProblem::kNoPage,
                  "there is no " + path + ": not started, or started with another --socket");
    case EACCES:
    case EPERM: return down(StatsProblem::kDenied, path + " may not be read: permission denied");
    default:
      return down(StatsProblem::kSystem,
                  path + " can't be read: " + std::generic_category().message(error));
  }
}

// O_NONBLOCK: opening a FIFO that somebody put there must not wait for a writer.
UniqueFd open_page(const char* path) {
  return UniqueFd(::open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
}

bool is_regular(int fd) {
  struct stat st {};
  return ::fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

// The writer holds a write lock on the whole file for its life. Unknown where the file system has
// no locks.
std::optional<bool> writer_alive(int fd) {
  struct flock lock {};
  lock.l_type = F_RDLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(fd, F_OFD_GETLK, &lock) != 0) return std::nullopt;
  return lock.l_type != F_UNLCK;
}

std::uint64_t sequence_of(int fd) {
  std::uint64_t sequence = 1;  // odd, which no whole page has
  (void)!::pread(fd, &sequence, sizeof sequence, offsetof(StatsPage, sequence));
  return sequence;
}

std::uint64_t& sequence_in(Copy& copy) {
  return *reinterpret_cast<std::uint64_t*>(copy.data() + offsetof(StatsPage, sequence));
}

void pause_briefly() {
  const struct timespec pause { 0, kPauseNanos };
  ::nanosleep(&pause, nullptr);
}

// A seqlock's reader, with pread for loads. Within one pread no order is promised, so the sequence
// number is read by itself before and after the copy.
ReadResult copy_once(int fd, Copy& copy, std::size_t& length, std::uint64_t now_ns,
                     StatsSnapshot& out) {
  const std::uint64_t before = sequence_of(fd);
  std::atomic_thread_fence(std::memory_order_acquire);
  const ssize_t n = ::pread(fd, copy.data(), copy.size(), 0);
  std::atomic_thread_fence(std::memory_order_acquire);
  length = n > 0 ? static_cast<std::size_t>(n) : 0;
  const std::uint64_t after = sequence_of(fd);
  const ReadResult result = read_page(std::span(copy.data(), length), after, now_ns, out);
  return result == ReadResult::kOk && before != after ? ReadResult::kTorn : result;
}

// A live writer that was stopped in the middle of writing (SIGSTOP, a debugger) leaves the page
// torn for as long as that lasts. Each word is whole, so the copy is wrong by that one update at
// most: an operator is better served by it than by none. What a dead writer left half-written is
// not used.
ReadResult copy_page(int fd, bool alive, Copy& copy, std::uint64_t now_ns, StatsSnapshot& out) {
  std::size_t length = 0;
  ReadResult result = ReadResult::kTorn;
  const int tries = alive ? kTries : 1;
  for (int i = 0; i < tries && result == ReadResult::kTorn; ++i) {
    if (i >= kTriesAtOnce) pause_briefly();
    result = copy_once(fd, copy, length, now_ns, out);
  }
  if (result != ReadResult::kTorn || !alive) return result;
  sequence_in(copy) = 0;
  return read_page(std::span(copy.data(), length), 0, now_ns, out);
}

std::string other_version(const std::string& path, const Copy& copy) {
  std::uint32_t version = 0;
  std::memcpy(&version, copy.data() + offsetof(StatsPage, version), sizeof version);
  return path + " is of another version of lingerd (its page has version " +
         std::to_string(version) + ", this program reads " + std::to_string(kStatsVersion) +
         "): upgrade both, then restart lingerd and httpd";
}

std::uint64_t age_ms(std::uint64_t since_ns, std::uint64_t now_ns) {
  return now_ns > since_ns ? (now_ns - since_ns) / 1'000'000 : 0;
}

DaemonStatus read_open(const std::string& path, int fd, std::uint64_t now_ns) {
  if (!is_regular(fd)) return down(StatsProblem::kNotAPage, path + " is not a regular file");
  const std::optional<bool> lock = writer_alive(fd);
  alignas(StatsPage) Copy copy{};
  DaemonStatus status;
  switch (copy_page(fd, lock.value_or(true), copy, now_ns, status.snapshot)) {
    case ReadResult::kOk: break;
    case ReadResult::kTorn:
      return down(StatsProblem::kNoWriter, "killed while it was writing " + path);
    case ReadResult::kNotAPage:
      return down(StatsProblem::kNotAPage, path + " is not a stats page of lingerd");
    case ReadResult::kOtherVersion:
      return down(StatsProblem::kOtherVersion, other_version(path, copy));
  }
  // Without locks a fresh heartbeat is the only sign.
  const std::uint64_t beat = status.snapshot.heartbeat_ns;
  const bool alive = lock.value_or(liveness(true, beat, now_ns) == Liveness::kUp);
  status.liveness = liveness(alive, beat, now_ns);
  if (!alive) {
    status.why = StatsProblem::kNoWriter;
    status.problem = "gone for " + duration_text(age_ms(beat, now_ns)) + ": stopped or killed";
  }
  return status;
}

}  // namespace

DaemonStatus read_stats(const char* stats_path, std::uint64_t now_ns) noexcept {
  try {
    const std::string path = stats_path;
    const UniqueFd fd = open_page(stats_path);
    if (!fd) return cannot_open(path, errno);
    return read_open(path, fd.get(), now_ns);
  } catch (...) {  // no memory for a string: httpd gets the state without its reason
    return {};
  }
}

}  // namespace lingerd
