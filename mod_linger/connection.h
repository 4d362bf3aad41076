// SPDX-License-Identifier: Apache-2.0
// What the module remembers of a client's connection, in its pool.
#pragma once

#include <httpd.h>

#include <atomic>

#include "mod_linger/offload.h"
#include "mod_linger/park.h"

namespace lingerd {

struct Connection {
  // The server of the last request: its settings govern. Set by whatever thread reads a request
  // (HTTP/2 has several), read by the one that closes.
  std::atomic<server_rec*> server{nullptr};
  bool closing = false;  // our pre_close hook has begun
  Offload offload;       // unused without LingerOffload
  Park park;             // unused without LingerKeepAlive
};

// Hooks: process_connection marks a client's connection as ours (nothing else does: not a proxy's
// connection to its backend, not an HTTP/2 stream), post_read_request notes the server.
int mark_connection(conn_rec* connection);
int note_server(request_rec* request);

// Hook: log_transaction, before mod_log_config writes: %{linger}n. "offer": this is the
// connection's last response, and its socket will be offered to lingerd when it closes; "offload":
// so will the rest of the response, which the client hasn't taken yet; "off": its server has Linger
// Off. Unset while the connection stays open, because nobody knows yet, and for
// HTTP/2. Whether lingerd takes the socket is known only after the line is written.
int note_for_log(request_rec* request);

// Null for every connection that is not a client's.
[[nodiscard]] Connection* connection_of(conn_rec* connection);

// HTTP/1, no upgrade, no tunnel: the connection holds no more than its requests.
[[nodiscard]] bool is_plain_http(const request_rec* request);

// Of the connection's last request; before the first, the address's default.
[[nodiscard]] const server_rec* server_of(conn_rec* connection);

// Its socket; -1: none.
[[nodiscard]] int socket_of(conn_rec* connection);

}  // namespace lingerd
