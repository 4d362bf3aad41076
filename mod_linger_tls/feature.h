// SPDX-License-Identifier: Apache-2.0
// Whether the module works at all in this configuration, and what it tells mod_linger.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_pools.h>

#include "mod_linger/tls/parking.h"

namespace lingerd::tls {

// Hooks: post_config, before mod_ssl's: is it wanted, and can it be? And the last of all: is
// mod_linger there, which parks?
int prepare(apr_pool_t* config_pool, apr_pool_t* log_pool, apr_pool_t* temp_pool,
            server_rec* server);
int introduce(apr_pool_t* config_pool, apr_pool_t* log_pool, apr_pool_t* temp_pool,
              server_rec* server);

// A server has it On, and nothing speaks against it.
[[nodiscard]] bool feature_is_wanted();
// And connections are parked by this httpd.
[[nodiscard]] bool feature_is_on();

// Null: it doesn't know us.
[[nodiscard]] const LingerSide* linger_side();

}  // namespace lingerd::tls
