// SPDX-License-Identifier: Apache-2.0
// A parked connection's arrival in a child.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>
#include <apr_network_io.h>
#include <apr_pools.h>

namespace lingerd {

struct Park;

// Hook: create_connection, before everybody else's. A connection to the private listener becomes
// the client's that it brings; the core then makes the conn_rec.
conn_rec* come_back(apr_pool_t* pool, server_rec* server, apr_socket_t* socket, long id, void* slot,
                    apr_bucket_alloc_t* buckets);

// Hook: pre_connection. What the connection was before it was parked.
int restore(conn_rec* connection, void* socket);

// From process_connection, the first time. What `park` has to know of a stay; and the socket's
// timeout for the request's first line, which the core has set as for a new connection. Nothing for
// one that is new.
void restore_timeout(conn_rec* connection, Park& park);

}  // namespace lingerd
