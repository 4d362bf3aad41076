// SPDX-License-Identifier: Apache-2.0
// LingerKeepAlive: what a connection knows of its parking, and how the feature gets into httpd.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>

#include "mod_linger/keepalive/patience.h"

namespace lingerd {

// What a connection knows of its parking.
struct Park {
  bool idle_next = false;      // what the next read waits for may wait in lingerd
  bool between = false;        // no line of the next request has been read yet, but blank ones
  bool authenticated = false;  // not each request: it is its user's, and stays
  apr_interval_time_t came_back_with =
      0;  // KeepAliveTimeout, before the first request after a stay
  Habit habit;
  apr_bucket_brigade* scratch = nullptr;
};

// Hooks the feature into httpd and into the connection's end.
void register_keep_alive();

}  // namespace lingerd
