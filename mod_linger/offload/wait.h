// SPDX-License-Identifier: Apache-2.0
// How a worker waits for a slow client itself, and gives up on one.
#pragma once

#include <httpd.h>

#include <cstdint>

#include "mod_linger/offload/rest.h"

namespace lingerd {

// The server's Timeout, as httpd's own writes have it. Not the socket's: at a connection's end
// event has set that to the 2 seconds of its lingering close.
[[nodiscard]] std::uint64_t timeout_ns_of(conn_rec* connection);

// The response can't be completed. Unless the client has gone by itself the connection ends with an
// RST: half a response must not look like a whole one.
apr_status_t mark_broken(conn_rec* connection, apr_status_t why);

// Until the socket takes something, for at most the server's Timeout.
[[nodiscard]] apr_status_t wait_writable(conn_rec* connection, int fd);

// Until no more than `at_most_left` of the rest is left; for at most the server's Timeout without
// progress. Else the connection is marked as broken. The caller holds the rest's mutex.
[[nodiscard]] apr_status_t wait_until_left(conn_rec* connection, Rest& rest,
                                           std::uint64_t at_most_left);

}  // namespace lingerd
