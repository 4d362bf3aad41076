// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/keepalive/at_end.h"

#include <httpd.h>  // before the others, which need it

#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>
#include <scoreboard.h>
#include <util_filter.h>

#include <cstdint>

#include "base/clock.h"
#include "contract/record.h"
#include "mod_linger/child.h"
#include "mod_linger/connection.h"
#include "mod_linger/keepalive/idle.h"
#include "mod_linger/keepalive/keepalive.h"
#include "mod_linger/keepalive/park.h"
#include "mod_linger/stay/departure.h"
#include "mod_linger/stay/over_tls.h"
#include "mod_linger/stay/permit.h"

namespace lingerd {
namespace {

apr_interval_time_t keep_alive_timeout(conn_rec* connection) {
  const server_rec* server = server_of(connection);
  if (!server->keep_alive_timeout_set) server = connection->base_server;
  return server->keep_alive_timeout;
}

// As httpd's own loop, which has ended because this child is to end. The answer says so: this child
// sends Connection: close by now.
void serve_here(conn_rec* connection) {
  apr_socket_timeout_set(ap_get_conn_socket(connection), keep_alive_timeout(connection));
  request_rec* request = ap_read_request(connection);
  if (request == nullptr || request->status != HTTP_OK) return;
  if (connection->sbh != nullptr) {
    ap_update_child_status(static_cast<ap_sb_handle_t*>(connection->sbh), SERVER_BUSY_WRITE,
                           request);
  }
  ap_process_request(request);
}

bool is_ahead_over_tls(conn_rec* connection) {
  return connection->data_in_input_filters && tls_parking_of(connection) != nullptr;
}

bool parks_instead_of_closing(conn_rec* connection, Park& park) {
  ap_filter_t* filter = park_filter_of(connection);
  if (filter != nullptr && !park.idle_next && !connection->aborted &&
      connection->keepalive == AP_CONN_KEEPALIVE) {
    // With the next request read ahead httpd doesn't flush: the end of the last one, which logs it
    // and says whether the connection may be parked, may still be behind bytes that wait for the
    // client.
    (void)flush_from(connection->output_filters, connection);
  }
  while (park.idle_next && !connection->aborted && connection->keepalive == AP_CONN_KEEPALIVE) {
    park.idle_next = false;
    if (filter == nullptr) return false;
    // What has been read ahead may be half a record of TLS's to mod_ssl, which is no stranger.
    if (!is_ahead_over_tls(connection) && has_stranger(connection, RecordKind::kIdle)) return false;
    // httpd looks ahead when it has answered, and so do we: what it finds isn't in the socket any
    // more, and would be lost.
    if (!anything_buffered(filter, park)) {
      const apr_interval_time_t timeout = keep_alive_timeout(connection);
      const std::uint64_t now_ns = monotonic_ns();
      return can_be_parked_for(timeout, 0) &&
             reaches_lingerd(connection, RecordKind::kIdle, now_ns, Otherwise::kCloses) &&
             parks(connection, timeout, now_ns);
    }
    serve_here(connection);
  }
  return false;
}

}  // namespace

bool goes_instead_of_closing(conn_rec* connection, Connection& ours) {
  return ours.park != nullptr && parks_instead_of_closing(connection, *ours.park);
}

}  // namespace lingerd
