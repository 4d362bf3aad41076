// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "base/unique_fd.h"
#include "base/unix_socket.h"

namespace lingerd::log {
namespace {

enum class Target { kTerminal, kJournal, kSyslog };

// $JOURNAL_STREAM is the device and inode of what systemd connected to stderr: systemd.exec(5). A
// child with another stderr inherits the variable too, so compare.
bool stderr_is_the_journal() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat status {};
  if (stream == nullptr || fstat(STDERR_FILENO, &status) != 0) return false;
  std::array<char, 64> ours{};
  std::snprintf(ours.data(), ours.size(), "%ju:%ju", static_cast<std::uintmax_t>(status.st_dev),
                static_cast<std::uintmax_t>(status.st_ino));
  return std::string(stream) == ours.data();
}

Target& target() {
  static Target current = stderr_is_the_journal() ? Target::kJournal : Target::kTerminal;
  return current;
}

std::uint64_t lost = 0;

std::string format_line(const char* format, va_list args) {
  std::array<char, 2048> text{};
  std::vsnprintf(text.data(), text.size(), format, args);
  std::string line(text.data());
  // Names and paths come from outside: no line breaks, no terminal's escapes.
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return line;
}

// stderr is shared with others, so O_NONBLOCK can't be set on it. What can say "not now" for one
// call only is asked so; else a pipe or terminal that is writable takes at least a whole line.
bool to_stderr(const std::string& line) {
  const auto taken = [&](ssize_t n) { return n == static_cast<ssize_t>(line.size()); };
  ssize_t n = send(STDERR_FILENO, line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n >= 0 || errno != ENOTSOCK) return taken(n);
  const iovec vector{const_cast<char*>(line.data()), line.size()};
  n = pwritev2(STDERR_FILENO, &vector, 1, -1, RWF_NOWAIT);
  if (n >= 0) return taken(n);
  pollfd now{STDERR_FILENO, POLLOUT, 0};
  if (poll(&now, 1, 0) <= 0 || (now.revents & POLLOUT) == 0) return false;
  return taken(::write(STDERR_FILENO, line.data(), line.size()));
}

// syslog(3) waits for a /dev/log that nobody reads.
class Syslog {
 public:
  bool write(int priority, const std::string& line) {
    std::array<char, 32> time{};
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    std::strftime(time.data(), time.size(), "%b %e %T", &local);
    const std::string text = "<" + std::to_string(LOG_DAEMON | priority) + ">" + time.data() +
                             " lingerd[" + std::to_string(getpid()) + "]: " + line;
    // Again with a new connection if the log was restarted.
    return send(text) || (errno != EAGAIN && connect() && send(text));
  }

 private:
  bool send(const std::string& text) {
    // A stream takes a zero for the end of a line, which counts as none in a message.
    return ::send(fd_.get(), text.data(), text.size() + (stream_ ? 1 : 0),
                  MSG_DONTWAIT | MSG_NOSIGNAL) > 0;
  }

  bool connect() {
    const UnixAddress address = unix_address("/dev/log");
    for (const int type : {SOCK_DGRAM, SOCK_STREAM}) {
      fd_ = unix_socket(type);
      stream_ = type == SOCK_STREAM;
      const int error = connect_to(fd_, address);
      if (error != EPROTOTYPE) return error == 0;
    }
    return false;
  }

  UniqueFd fd_;
  bool stream_ = false;
};

bool put(Level level, const std::string& line) {
  static Syslog syslog;
  const int priority = static_cast<int>(level);
  switch (target()) {
    case Target::kSyslog: return syslog.write(priority, line);
    case Target::kJournal: return to_stderr("<" + std::to_string(priority) + ">" + line + "\n");
    case Target::kTerminal: break;
  }
  return to_stderr("lingerd: " + line + "\n");
}

}  // namespace

void to_syslog() {
  target() = Target::kSyslog;
}

void say_lost() {
  if (lost == 0) return;
  if (put(Level::kWarning, std::to_string(lost) + " log lines were lost: nobody read the log")) {
    lost = 0;
  }
}

void write(Level level, const char* format, ...) {
  va_list args;
  va_start(args, format);
  const std::string line = format_line(format, args);
  va_end(args);
  say_lost();
  if (lost != 0 || !put(level, line)) ++lost;
}

}  // namespace lingerd::log
