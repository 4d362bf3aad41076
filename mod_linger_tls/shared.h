// SPDX-License-Identifier: Apache-2.0
// httpd's shared memory for what is kept of parked connections: made by the parent, inherited by
// each child, as long-lived as httpd, so that a graceful restart loses nothing.
#pragma once

#include <httpd.h>

#include <apr_pools.h>

#include <cstdint>

#include "mod_linger_tls/stay_table.h"

namespace lingerd::tls {

// Makes it, or finds that of an earlier configuration, and looks after its key. False, and the log
// says why: nothing can be kept.
[[nodiscard]] bool prepare_stays(server_rec* server);

// Begins a configuration, which hasn't asked for it yet. Whether an earlier one has made it.
[[nodiscard]] bool forget_stays();

// Hook: monitor, in the parent, every some seconds. What lies there, and the key to it, isn't older
// than it has to be.
int look_after_stays(apr_pool_t* pool, server_rec* server);

// Null: there is none, or this configuration hasn't asked for it.
[[nodiscard]] Stays* stays();

}  // namespace lingerd::tls
