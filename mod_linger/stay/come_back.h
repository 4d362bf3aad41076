// SPDX-License-Identifier: Apache-2.0
// The arrival of a connection that comes back, in a child.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>
#include <apr_network_io.h>
#include <apr_pools.h>

#include "contract/record.h"

namespace lingerd {

// Hook: create_connection, before everybody else's. A connection to the private listener becomes
// the client's that it brings; the core then makes the conn_rec.
conn_rec* come_back(apr_pool_t* pool, server_rec* server, apr_socket_t* socket, long id, void* slot,
                    apr_bucket_alloc_t* buckets);

// Hook: pre_connection. What the connection was before it went.
int restore(conn_rec* connection, void* socket);

// What lingerd said of a connection that has come back. Null: it is new.
[[nodiscard]] const Return* return_of(apr_socket_t* socket);

}  // namespace lingerd
