// SPDX-License-Identifier: Apache-2.0
// What of an idle connection goes to lingerd: nothing that has been read ahead of it, and a record
// with what is left of its KeepAliveTimeout.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <util_filter.h>

#include <cstdint>

namespace lingerd {

struct Park;

// lingerd takes no stay longer than kMaxDurationMs; one that the worker's own wait would use up
// is none.
[[nodiscard]] bool can_be_parked_for(apr_interval_time_t timeout, std::uint32_t wait_ms);

// Read ahead by the core's filter; or in the kernel, from where this look takes it. `filter` is
// park's own.
[[nodiscard]] bool anything_buffered(ap_filter_t* filter, Park& park);

// True: the connection has gone. Nothing has been read ahead of it, nor has it a stranger.
[[nodiscard]] bool parks(conn_rec* connection, apr_interval_time_t timeout, std::uint64_t since_ns);

}  // namespace lingerd
