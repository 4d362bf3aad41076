// SPDX-License-Identifier: Apache-2.0
// Parking: an idle keep-alive connection goes to lingerd, and the worker is free. A connection
// input filter just above the core's: when the next request is asked for and isn't there, it sends
// the socket away and says that the connection has ended. Where it doubts it does nothing, and the
// worker waits as ever.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>

#include <cstdint>

namespace lingerd {

// What a connection knows of its parking.
struct Park {
  bool idle_next = false;          // a request that may be followed by parking is done
  bool parked = false;             // the socket is lingerd's: nobody here may touch it any more
  std::uint64_t last_stay_ms = 0;  // in lingerd, before the last request
  std::uint32_t quick = 0;         // requests in a row that came while the worker waited
  apr_bucket_brigade* scratch = nullptr;
};

void register_park_filter();
void add_park_filter(conn_rec* connection);

// From pre_close_connection. A child that is about to end (a graceful restart,
// MaxConnectionsPerChild) closes its connections after the request under way, which their clients
// can't know: with the next one they find it closed. Parked instead they go on with another child.
[[nodiscard]] bool parks_instead_of_closing(conn_rec* connection, Park& park);

// Hook: log_transaction. Whether the connection may be parked before its next request.
int note_for_parking(request_rec* request);

}  // namespace lingerd
