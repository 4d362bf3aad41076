// SPDX-License-Identifier: Apache-2.0
// Reads lingerd's stats page without asking lingerd: for server-status and lingerctl. The page is
// pread(2), never mapped: a file that somebody truncates would be a SIGBUS in httpd.
#pragma once

#include <cstdint>

#include "lingerd/report.h"

namespace lingerd {

// `stats_path` is <socket>.stats, `now_ns` CLOCK_MONOTONIC. Never blocks: at most a few
// milliseconds when lingerd was interrupted while it wrote. Whatever it finds, it returns.
[[nodiscard]] DaemonStatus read_stats(const char* stats_path, std::uint64_t now_ns) noexcept;

}  // namespace lingerd
