// SPDX-License-Identifier: Apache-2.0
// Offload: the rest of a connection's last response goes to lingerd with the socket. A connection
// output filter under mod_ssl's (it sees ciphertext) and above the core's. While it doubts, it
// passes everything on and changes nothing; once it knows that this response is the connection's
// last, it writes to the socket itself, and what the socket doesn't take goes into the backlog
// instead of keeping the worker.
#pragma once

#include <httpd.h>

#include "mod_linger/backlog.h"

namespace lingerd {

struct Settings;

// What a connection knows of its offload.
struct Offload {
  bool allowed = false;       // the last request was one that may be offloaded
  bool direct = false;        // this filter writes to the socket; the core's has nothing left
  bool segment_open = false;  // the kernel holds back a part of a segment (MSG_MORE)
  Backlog backlog;
};

void register_offload_filters();
// Whether any server of this configuration has LingerOffload On: without one there is no filter.
void look_for_offload(const server_rec* servers);
bool add_offload_filter(conn_rec* connection);
void add_offload_close_filter(request_rec* request);

// Whether the last request's response may travel.
[[nodiscard]] bool may_offload(const request_rec* request);

// Sends the backlog in the worker, as httpd would: waits for the client, each time for at most the
// server's Timeout. False, and the connection is marked as broken, if the client is lost.
[[nodiscard]] bool send_backlog_here(conn_rec* connection, Offload& offload);

}  // namespace lingerd
