// SPDX-License-Identifier: Apache-2.0
// What the module knows of a client's connection to mod_ssl.
//
// It is one of two kinds. The first time it is mod_ssl's own: a tap follows it, so that its secrets
// and sequence numbers are known when it is parked. Each time that it comes back a bridge stands
// between the client and mod_ssl, which then has another TLS connection, in memory.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <openssl/ssl.h>
#include <util_filter.h>

#include <cstdint>
#include <optional>

#include "mod_linger_tls/inner/bridge.h"
#include "mod_linger_tls/last_record.h"
#include "mod_linger_tls/layer/state.h"
#include "mod_linger_tls/tap.h"

namespace lingerd::tls {

struct Connection {
  explicit Connection(conn_rec* its) : connection(its) {}

  conn_rec* connection;
  SSL* met = nullptr;                // mod_ssl's object, which may be gone: ssl_of() knows
  ap_filter_t* below_ssl = nullptr;  // ours, when they have met
  bool late = false;                 // requests may have been read: too late for a tap
  bool gone = false;                 // parked: nothing is written or read any more

  Tap tap;
  LastRecord written;  // by mod_ssl
  LastRecord read;

  std::optional<Bridge> bridge;
  std::uint64_t arrived_ns = 0;  // with the bridge; 0: it has been counted as resumed
};

// Null: not a client's.
[[nodiscard]] Connection* connection_of(conn_rec* connection);
// By mod_ssl's object.
[[nodiscard]] Connection* connection_of(const SSL* ssl);
// mod_ssl's object; null: it doesn't speak TLS (yet), or has said goodbye and freed it.
[[nodiscard]] SSL* ssl_of(const Connection& ours);

// Hooks. post_config: `connection_of(ssl)` has a place in SSL objects, and mod_ssl can be asked.
[[nodiscard]] bool prepare_connections();
// pre_connection, before mod_ssl's.
int begin_connection(conn_rec* connection, void* socket);
// process_connection, before all others'.
int check_connection(conn_rec* connection);
// mod_ssl's pre_handshake and init_server.
int meet_ssl(conn_rec* connection, SSL* ssl, int is_proxy);
int tap_context(server_rec* server, apr_pool_t* pool, int is_proxy, SSL_CTX* context);

}  // namespace lingerd::tls
