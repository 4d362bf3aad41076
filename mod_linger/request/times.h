// SPDX-License-Identifier: Apache-2.0
// How long a client may take for a request: by LingerRequest's directives, and by mod_reqtimeout's.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_pools.h>

#include <cstdint>

#include "contract/record.h"

namespace lingerd {

struct Settings;
struct RequestLimits;

// Hook: post_config. The tightest RequestReadTimeout of all servers counts for each.
int learn_read_timeouts(apr_pool_t* config_pool, apr_pool_t* log_pool, apr_pool_t* temp_pool,
                        server_rec* server);

// What is waited for of a request to this server, at most.
[[nodiscard]] RequestLimits limits_of(const server_rec* server);
// The time for this part of it, until the rate counts.
[[nodiscard]] std::uint32_t timeout_ms_for(RequestPart part, const Settings& settings);

}  // namespace lingerd
