// SPDX-License-Identifier: Apache-2.0
// How a connection goes to lingerd for a while: what keeps it, and the record that takes it there.
// In the order of these functions, from what costs nothing to what can't be taken back.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <cstdint>

#include "contract/record.h"
#include "mod_linger/stay/permit.h"

namespace lingerd {

// What a connection waits for there: RecordKind::kIdle, parked until its next request, or kRequest,
// until the rest of one has come.

// Whether something is on it that a stay would lose (strangers.h). Says so in the log.
[[nodiscard]] bool has_stranger(conn_rec* connection, RecordKind kind);

// Nothing goes before lingerd has found that it can give it back.
[[nodiscard]] bool reaches_lingerd(conn_rec* connection, RecordKind kind, std::uint64_t now_ns,
                                   Otherwise otherwise);

// True: the connection has gone. `handoff` is complete but for the tag. Nothing has been read ahead
// of it, nor has it a stranger.
[[nodiscard]] bool departs(conn_rec* connection, Handoff handoff);

}  // namespace lingerd
