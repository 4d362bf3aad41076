// SPDX-License-Identifier: Apache-2.0
// What else is on a connection. Parking ends one conn_rec and begins another: what other modules
// keep on it is lost, so a connection with anything on it that isn't known to be harmless stays.
#pragma once

#include <httpd.h>  // before the others, which need it

#include "contract/record.h"

namespace lingerd {

// Hook: child_init. Learns which of the loaded modules aren't known.
void learn_strangers(apr_pool_t* child_pool, server_rec* server);

// A filter that isn't known: whose connection it is will not go.
[[nodiscard]] bool has_unknown_filter(const conn_rec* connection);

// What it is that keeps the connection, in words for the log; null: nothing does.
// `kind`: how it is to go. Over TLS only an idle one can.
[[nodiscard]] const char* stranger_on(conn_rec* connection, RecordKind kind);

}  // namespace lingerd
