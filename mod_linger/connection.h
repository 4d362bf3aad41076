// SPDX-License-Identifier: Apache-2.0
// What the module remembers of a client's connection, in its pool.
#pragma once

#include <httpd.h>

#include <apr_hooks.h>
#include <util_filter.h>

#include <atomic>

namespace lingerd {

struct Offload;
struct Park;
struct Request;

struct Connection {
  // The server of the last request: its settings govern. Set by whatever thread reads a request
  // (HTTP/2 has several), read by the one that closes.
  std::atomic<server_rec*> server{nullptr};
  bool closing = false;  // our pre_close hook has begun
  bool gone = false;     // the socket is lingerd's: nobody here may touch it any more
  // What the features know of it, in its pool as well; null while the feature isn't on.
  Offload* offload = nullptr;
  Park* park = nullptr;
  Request* request = nullptr;
};

// A feature's hook of a kind that we have one of ourselves, which comes first: it finds the
// connection marked, and its server noted.
inline constexpr int kBehindOurs = APR_HOOK_REALLY_FIRST + 1;

// Hooks: process_connection marks a client's connection as ours (nothing else does: not a proxy's
// connection to its backend, not an HTTP/2 stream), post_read_request notes the server.
int mark_connection(conn_rec* connection);
int note_server(request_rec* request);

// Hook: log_transaction, before mod_log_config writes: %{linger}n. "offer": this is the
// connection's last response, and its socket will be offered to lingerd when it closes, or has
// been; "off": its server has Linger Off ("offload" is that feature's to say). Unset while the
// connection stays open, because nobody knows yet, and for HTTP/2. Whether lingerd takes a socket
// without a rest is mostly known only after the line is written.
int note_for_log(request_rec* request);

// Null for every connection that is not a client's.
[[nodiscard]] Connection* connection_of(conn_rec* connection);

// HTTP/1, no upgrade, no tunnel: the connection holds no more than its requests.
[[nodiscard]] bool is_plain_http(const request_rec* request);

// Of the connection's last request; before the first, the address's default.
[[nodiscard]] const server_rec* server_of(conn_rec* connection, const Connection* ours);
[[nodiscard]] const server_rec* server_of(conn_rec* connection);

// Its socket; -1: none.
[[nodiscard]] int socket_of(conn_rec* connection);

// A FLUSH through the output filters from this one on: what they hold is sent, as httpd does it.
apr_status_t flush_from(ap_filter_t* filter, conn_rec* connection);

}  // namespace lingerd
