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

#include <util_filter.h>

namespace lingerd {

// Whether anything can be parked here.
[[nodiscard]] bool is_parking_on();

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
