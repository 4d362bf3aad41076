// SPDX-License-Identifier: Apache-2.0
#include "lingerd/log.h"

#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>

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

}  // namespace

void to_syslog() {
  openlog("lingerd", LOG_PID, LOG_DAEMON);
  target() = Target::kSyslog;
}

void write(Level level, const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::string line = format_line(format, args);
  va_end(args);

  const int priority = static_cast<int>(level);
  switch (target()) {
    case Target::kSyslog: syslog(priority, "%s", line.c_str()); return;
    case Target::kJournal: line = "<" + std::to_string(priority) + ">" + line + "\n"; break;
    case Target::kTerminal: line = "lingerd: " + line + "\n"; break;
  }
  // One write, so that lines stay whole; nobody is there to hear that it failed.
  [[maybe_unused]] const auto ignored = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace lingerd::log
