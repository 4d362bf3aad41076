// SPDX-License-Identifier: Apache-2.0
// Reads lingerd's stats page without asking lingerd: for server-status and lingerctl. The page is
// pread(2), never mapped: a file that somebody truncates would be a SIGBUS in httpd.
//
// Whether the writer lives is a question to the kernel (an OFD lock on the file), which a killed
// process can't answer wrongly; a heartbeat older than kStaleNs makes a living one "busy".
#pragma once

#include <cstdint>
#include <string>

#include "contract/stats_page.h"

namespace lingerd {

// Why nothing could be read, or why what was read is only history.
enum class StatsProblem {
  kNone,
  kNoPage,        // no such file: lingerd isn't running, or listens elsewhere
  kNoWriter,      // a page that nobody writes any more
  kDenied,        // permissions
  kNotAPage,      // something else is at that path
  kOtherVersion,  // a page of another lingerd
  kSystem,        // any other errno
};

// How lingerd is, as told by its stats page.
struct DaemonStatus {
  Liveness liveness = Liveness::kDown;
  // Valid unless heartbeat_ns is 0. While lingerd is down it is what a dead lingerd left behind:
  // good for the charts, not for the counters.
  StatsSnapshot snapshot;
  StatsProblem why = StatsProblem::kNone;
  std::string problem;  // `why` in words, with the path; empty while lingerd is up
};

// `stats_path` is <socket>.stats, `now_ns` CLOCK_MONOTONIC. Never blocks: at most a few
// milliseconds when lingerd was interrupted while it wrote. Whatever it finds, it returns.
[[nodiscard]] DaemonStatus read_stats(const char* stats_path, std::uint64_t now_ns) noexcept;

}  // namespace lingerd
