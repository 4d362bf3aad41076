// SPDX-License-Identifier: Apache-2.0
// Log lines of the daemon's edges: stderr with a journal priority prefix when systemd reads it
// ($JOURNAL_STREAM), plain stderr on a terminal, syslog(3) with --daemon. The core never logs.
#pragma once

#include <cstdarg>
#include <string>

namespace lingerd::log {

enum class Level { kError = 3, kWarning = 4, kNotice = 5, kInfo = 6 };  // as in syslog(3)

void to_syslog();  // from now on: LOG_DAEMON, ident "lingerd"
[[gnu::format(printf, 2, 3)]] void write(Level level, const char* format, ...);

}  // namespace lingerd::log
