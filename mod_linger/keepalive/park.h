// SPDX-License-Identifier: Apache-2.0
// Parking: an idle keep-alive connection goes to lingerd, and the worker is free. A connection
// input filter just above the core's: when the next request is asked for and isn't there, it sends
// the socket away and says that the connection has ended. Where it doubts it does nothing, and the
// worker waits as ever.
//
// No answer is asked for. A record of an idle connection that gets lost costs a connection that
// may be closed at any time (RFC 9112, 9.5), so a stay costs two messages.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>
#include <util_filter.h>

#include <cstdint>

#include "mod_linger/keepalive/patience.h"

namespace lingerd {

// What a connection knows of its parking.
struct Park {
  bool idle_next = false;      // what the next read waits for may wait in lingerd
  bool between = false;        // no line of the next request has been read yet, but blank ones
  bool parked = false;         // the socket is lingerd's: nobody here may touch it any more
  bool authenticated = false;  // not each request: it is its user's, and stays
  apr_interval_time_t came_back_with =
      0;  // KeepAliveTimeout, before the first request after a stay
  Habit habit;
  apr_bucket_brigade* scratch = nullptr;
};

// Hooks the feature into httpd and into the connection's end.
void register_keep_alive();

void register_park_filter();
// Null: the connection can't be parked.
[[nodiscard]] ap_filter_t* park_filter_of(conn_rec* connection);

// Hook: process_connection, behind the one that marks a client's.
int add_park_filter(conn_rec* connection);

// Hook: post_read_request, before other modules change the headers.
int note_credentials(request_rec* request);

// Hook: log_transaction. Whether the connection may be parked before its next request.
int note_for_parking(request_rec* request);

}  // namespace lingerd
