// SPDX-License-Identifier: Apache-2.0
// Log lines of the daemon's edges: stderr with a journal priority prefix when systemd reads it
// ($JOURNAL_STREAM), plain stderr on a terminal, /dev/log with --daemon. The core never logs.
//
// A log that nobody reads must not stop the loop: a line that can't be written at once is dropped
// and counted, and the next one that can be is preceded by how many were lost.
#pragma once

#include <cstdarg>
#include <string>

namespace lingerd::log {

enum class Level { kError = 3, kWarning = 4, kNotice = 5 };  // as in syslog(3)

void to_syslog();  // from now on: LOG_DAEMON, ident "lingerd"
[[gnu::format(printf, 2, 3)]] void write(Level level, const char* format, ...);

// Says how many lines were lost, if some were and it can be said now: to be called now and then.
void say_lost();

}  // namespace lingerd::log
