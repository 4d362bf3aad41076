// SPDX-License-Identifier: Apache-2.0
#include "lingerd/start/daemonize.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace lingerd {
namespace {

[[noreturn]] void fail(const char* step) {
  throw StartupError(ExitStatus::kFailure, std::string("can't go to the background: ") + step +
                                               ": " + std::strerror(errno));
}

void write_all(int fd, const std::string& text) {
  std::size_t written = 0;
  while (written < text.size()) {
    const ssize_t n = ::write(fd, text.data() + written, text.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;  // the shell has gone: nobody to tell
    written += static_cast<std::size_t>(n);
  }
}

// The process that the shell waits for: one byte of status, then the reason, then the end.
[[noreturn]] void wait_for_daemon(const UniqueFd& pipe) {
  std::string said;
  std::array<char, 1024> buffer{};
  while (true) {
    const ssize_t n = ::read(pipe.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    said.append(buffer.data(), static_cast<std::size_t>(n));
  }
  int status = static_cast<int>(ExitStatus::kFailure);
  if (said.empty()) said = "?lingerd died before it was ready; syslog may know more";
  if (said[0] != '?') status = static_cast<unsigned char>(said[0]);
  if (status != 0) std::fprintf(stderr, "lingerd: %s\n", said.c_str() + 1);
  // No destructors: what they would undo is the daemon's.
  ::_exit(status);
}

void detach_stdio() {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return;
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null.get(), fd);
}

}  // namespace

void Readiness::ready() {
  if (!pipe_) return;
  write_all(pipe_.get(), std::string(1, '\0'));
  pipe_.reset();
}

void Readiness::failed(ExitStatus status, const std::string& why) {
  if (!pipe_) return;
  write_all(pipe_.get(), static_cast<char>(status) + why);
  pipe_.reset();
}

Readiness daemonize() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail("pipe");
  UniqueFd from_daemon(ends[0]);
  UniqueFd to_shell(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) fail("fork");
  if (child > 0) {
    to_shell.reset();
    wait_for_daemon(from_daemon);
  }
  from_daemon.reset();
  Readiness readiness(std::move(to_shell));
  // setsid, then a second fork: a session leader that opens a terminal would get it for its own.
  const pid_t grandchild = ::setsid() < 0 ? -1 : ::fork();
  if (grandchild < 0) {
    readiness.failed(ExitStatus::kFailure,
                     std::string("can't go to the background: ") + std::strerror(errno));
    ::_exit(static_cast<int>(ExitStatus::kFailure));
  }
  if (grandchild > 0) ::_exit(0);
  if (::chdir("/") != 0) ::_exit(static_cast<int>(ExitStatus::kFailure));
  detach_stdio();
  return readiness;
}

namespace {

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  const ExitStatus status = errno == ENOENT ? ExitStatus::kNotConfigured
                            : errno == EACCES || errno == EPERM || errno == EROFS
                                ? ExitStatus::kNoPrivilege
                                : ExitStatus::kFailure;
  throw StartupError(status, "pidfile " + path + ": " + why);
}

// In a directory of another user it may be a second name of somebody's file.
bool is_ordinary(int fd) {
  struct stat file {};
  return ::fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && file.st_nlink <= 1;
}

}  // namespace

PidFile::PidFile(std::string path, UniqueFd inherited) : path_(std::move(path)) {
  fd_ = std::move(inherited);
  if (fd_ && is_still_there()) return;
  // Again if the lingerd before us removed the file between our open and our lock.
  do {
    fd_.reset(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!fd_) refuse(path_, std::string("can't open it: ") + std::strerror(errno));
    if (!is_ordinary(fd_.get())) {
      errno = EEXIST;
      refuse(path_, "something is there that is not a file of its own: not touching it");
    }
    if (::flock(fd_.get(), LOCK_EX | LOCK_NB) != 0) {
      std::array<char, 16> pid{};
      if (::pread(fd_.get(), pid.data(), pid.size() - 1, 0) <= 0) pid[0] = '\0';
      errno = EWOULDBLOCK;
      refuse(path_, "a running lingerd holds it, process " + std::to_string(std::atol(pid.data())));
    }
  } while (!is_still_there());
  ::fchmod(fd_.get(), 0644);
  write();
}

void PidFile::write() {
  if (::ftruncate(fd_.get(), 0) != 0) {
    refuse(path_, std::string("can't write: ") + std::strerror(errno));
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::pwrite(fd_.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    refuse(path_, std::string("can't write: ") + std::strerror(errno));
  }
}

bool PidFile::is_still_there() const {
  struct stat ours {};
  struct stat there {};
  return ::fstat(fd_.get(), &ours) == 0 && ::lstat(path_.c_str(), &there) == 0 &&
         ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

PidFile::~PidFile() {
  if (!is_still_there() || ::unlink(path_.c_str()) == 0) return;
  [[maybe_unused]] const int ignored = ::ftruncate(fd_.get(), 0);
}

}  // namespace lingerd
