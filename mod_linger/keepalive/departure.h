// SPDX-License-Identifier: Apache-2.0
// How an idle connection goes to lingerd: what keeps it, and the record that takes it there. In the
// order of these functions, from what costs nothing to what can't be taken back.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <util_filter.h>

#include <cstdint>

#include "mod_linger/keepalive/permit.h"

namespace lingerd {

struct Park;

// lingerd takes no stay longer than kMaxDurationMs; one that the worker's own wait would use up
// is none.
[[nodiscard]] bool can_be_parked_for(apr_interval_time_t timeout, std::uint32_t wait_ms);

// Whether something is on it that a stay would lose (strangers.h). Says so in the log.
[[nodiscard]] bool has_stranger(conn_rec* connection);

// Nothing is parked before lingerd has found that it can give it back.
[[nodiscard]] bool reaches_lingerd(conn_rec* connection, std::uint64_t now_ns, Otherwise otherwise);

// Read ahead by the core's filter; or in the kernel, from where this look takes it. `filter` is
// park's own.
[[nodiscard]] bool anything_buffered(ap_filter_t* filter, Park& park);

// True: the connection has gone. Nothing has been read ahead of it, nor has it a stranger.
[[nodiscard]] bool parks(conn_rec* connection, Park& park, apr_interval_time_t timeout,
                         std::uint64_t since_ns);

}  // namespace lingerd
