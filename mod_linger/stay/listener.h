// SPDX-License-Identifier: Apache-2.0
// The way back of parked connections and gathered requests: a private listener, among httpd's own,
// to which lingerd connects and sends a client's descriptor. A free child accepts it as it would a
// client, finds out whose connection it is, and puts the client's in its place.
//
// It outlives configurations. Its record and socket come from the process's pool, two of each in
// turn, because httpd looks at the old ones when their configuration is gone. A new record gets
// a copy of the old one's descriptor: if the module is gone after a restart, so is the listener,
// and lingerd notices.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_pools.h>

#include "mod_linger/stay/return_tag.h"

namespace lingerd {

// Hook: open_logs, before the MPM's, which counts the listeners. Makes the listener, or takes over
// that of an earlier configuration, if any feature that gives connections to lingerd for a while
// is on, and the MPM can't do without. What keeps it from being made is said by
// announce_listener(), when the log is open.
int open_listener(apr_pool_t* config_pool, apr_pool_t* log_pool, apr_pool_t* temp_pool,
                  server_rec* server);
// Hook: child_init. httpd -X ends otherwise.
void look_after_listener(apr_pool_t* child_pool, server_rec* server);
// From post_config.
void announce_listener(server_rec* server);

// Of the tags of parked connections (return_tag.h): as long-lived as the listener. Null: there is
// none.
[[nodiscard]] const ReturnKey* return_key();

// A descriptor (O_PATH) that names the listener, for lingerd to connect to; -1: there is none.
[[nodiscard]] int way_back();
[[nodiscard]] bool is_listeners_path(const char* path);

}  // namespace lingerd
