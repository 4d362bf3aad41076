// SPDX-License-Identifier: Apache-2.0
// The filters directly under mod_ssl's: all that it reads from the client and writes to it goes
// through them.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>
#include <apr_errno.h>

#include "mod_linger_tls/connection.h"
#include "mod_linger_tls/inner/bridge.h"

namespace lingerd::tls {

void register_filters();
void add_filters(conn_rec* connection, Connection& ours);

// Puts what the bridge has for the client behind what is in `brigade`.
void take_for_client(Bridge& bridge, apr_bucket_brigade* brigade);
// The bridge has failed: says so in the log. What a filter says then.
[[nodiscard]] apr_status_t broken(conn_rec* connection, const Bridge& bridge);

}  // namespace lingerd::tls
