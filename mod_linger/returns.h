// SPDX-License-Identifier: Apache-2.0
// The way back of parked connections: a private listener, among httpd's own, to which lingerd
// connects and sends a client's descriptor. A free child accepts it as it would a client, finds out
// whose connection it is, and puts the client's in its place.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_network_io.h>
#include <apr_pools.h>

#include <cstdint>

namespace lingerd {

// Hook: open_logs, before the MPM's, which counts the listeners. Makes the listener, or takes over
// that of an earlier configuration, if any server has LingerKeepAlive On and the MPM can't do
// without. What keeps it from being made is said by announce_listener(), when the log is open.
int open_listener(apr_pool_t* config_pool, apr_pool_t* log_pool, apr_pool_t* temp_pool,
                  server_rec* server);
// From post_config.
void announce_listener(server_rec* server);

// A descriptor (O_PATH) that names the listener, for lingerd to connect to; -1: there is none.
[[nodiscard]] int way_back();
[[nodiscard]] bool is_listeners_path(const char* path);

// Hook: create_connection, before everybody else's. A connection to the private listener becomes
// the client's that it brings; the core then makes the conn_rec.
conn_rec* come_back(apr_pool_t* pool, server_rec* server, apr_socket_t* socket, long id, void* slot,
                    apr_bucket_alloc_t* buckets);

// Hook: pre_connection. What the connection was before it was parked.
int restore(conn_rec* connection, void* socket);

// From process_connection: the socket's timeout, which the core has set as for a new connection.
// How long the connection was lingerd's, in milliseconds; 0: it is a new one.
std::uint64_t restore_timeout(conn_rec* connection);

}  // namespace lingerd
