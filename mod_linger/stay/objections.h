// SPDX-License-Identifier: Apache-2.0
// What other modules have against parking as such. A return is a new connection to httpd: every
// hook that runs once a connection runs again. One that counts connections counts it again, one
// that keeps something loses it. What isn't known to bear that isn't parked, and the log says so at
// the start.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_pools.h>

namespace lingerd {

// From post_config, the last of all. Looks at the hooks of all modules and at the configuration.
void learn_objections(apr_pool_t* temp_pool, server_rec* server);

// Whether there are none.
[[nodiscard]] bool may_stay();
// The same for idle connections: not on event, which lets them wait without a worker itself.
[[nodiscard]] bool may_be_parked();

}  // namespace lingerd
