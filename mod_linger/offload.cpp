// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/offload.h"

#include <apr_buckets.h>
#include <apr_strings.h>
#include <http_protocol.h>
#include <util_filter.h>

#include <cstring>

#include "mod_linger/child.h"
#include "mod_linger/connection.h"
#include "mod_linger/offload_writer.h"
#include "mod_linger/settings.h"

namespace lingerd {
namespace {

constexpr char kFilter[] = "LINGER_OFFLOAD";
constexpr char kCloseFilter[] = "LINGER_OFFLOAD_CLOSE";

bool offload_anywhere = false;  // in this configuration; set before any child starts

bool is_http1(conn_rec* connection) {
  return std::strcmp(ap_get_protocol(connection), AP_PROTOCOL_HTTP1) == 0;
}

bool holds_data(apr_bucket_brigade* brigade) {
  for (apr_bucket* b = APR_BRIGADE_FIRST(brigade); b != APR_BRIGADE_SENTINEL(brigade);
       b = APR_BUCKET_NEXT(b)) {
    if (!APR_BUCKET_IS_METADATA(b)) return true;
  }
  return false;
}

// The last response of a connection that lingerd will be offered.
bool may_go_direct(conn_rec* connection, const Connection& ours, apr_bucket_brigade* brigade) {
  if (!ours.offload.allowed || connection->keepalive != AP_CONN_CLOSE || connection->aborted) {
    return false;
  }
  const Settings& settings = settings_of(server_of(connection));
  return settings.enabled && settings.offload && holds_data(brigade) && is_http1(connection) &&
         this_child().client != nullptr && this_child().client->delivers();
}

apr_status_t offload_filter(ap_filter_t* filter, apr_bucket_brigade* brigade) {
  conn_rec* connection = filter->c;
  Connection* ours = connection_of(connection);
  if (ours == nullptr) return ap_pass_brigade(filter->next, brigade);
  Offload& offload = ours->offload;
  if (!offload.direct) {
    if (!may_go_direct(connection, *ours, brigade)) return ap_pass_brigade(filter->next, brigade);
    // What the core's filter still holds, of an earlier response, goes first.
    apr_bucket_brigade* flush = apr_brigade_create(connection->pool, connection->bucket_alloc);
    APR_BRIGADE_INSERT_TAIL(flush, apr_bucket_flush_create(connection->bucket_alloc));
    const apr_status_t status = ap_pass_brigade(filter->next, flush);
    apr_brigade_destroy(flush);
    if (status != APR_SUCCESS || connection->aborted) {
      apr_brigade_cleanup(brigade);
      return status != APR_SUCCESS ? status : APR_ECONNABORTED;
    }
    offload.direct = true;
  }
  if (connection->aborted) {
    apr_brigade_cleanup(brigade);
    return APR_ECONNABORTED;
  }
  const Settings& settings = settings_of(server_of(connection));
  OffloadWriter writer(connection, offload.backlog, settings.offload_max, offload.segment_open);
  const apr_status_t status = writer.write(brigade);
  if (status == APR_SUCCESS && writer.handed_back()) {
    offload.allowed = offload.direct = false;
    return ap_pass_brigade(filter->next, brigade);
  }
  apr_brigade_cleanup(brigade);
  return status;
}

// LingerOffloadClose: a response known to be larger is the connection's last, so that it can
// travel.
apr_status_t offload_close_filter(ap_filter_t* filter, apr_bucket_brigade* brigade) {
  request_rec* request = filter->r;
  const Settings& settings = settings_of(request->server);
  apr_off_t length = request->clength;
  if (const char* given = apr_table_get(request->headers_out, "Content-Length")) {
    char* end = nullptr;
    if (apr_strtoff(&length, given, &end, 10) != APR_SUCCESS) length = 0;
  }
  if (length > static_cast<apr_off_t>(settings.offload_close) && !request->header_only &&
      request->status != HTTP_NOT_MODIFIED && may_offload(request)) {
    apr_table_mergen(request->headers_out, "Connection", "close");
  }
  ap_remove_output_filter(filter);
  return ap_pass_brigade(filter->next, brigade);
}

}  // namespace

void register_offload_filters() {
  ap_register_output_filter(kFilter, offload_filter, nullptr,
                            static_cast<ap_filter_type>(AP_FTYPE_NETWORK - 1));
  ap_register_output_filter(kCloseFilter, offload_close_filter, nullptr,
                            static_cast<ap_filter_type>(AP_FTYPE_PROTOCOL - 1));
}

void look_for_offload(const server_rec* servers) {
  offload_anywhere = false;
  for (const server_rec* server = servers; server != nullptr; server = server->next) {
    if (settings_of(server).offload) offload_anywhere = true;
  }
}

bool add_offload_filter(conn_rec* connection) {
  return offload_anywhere && ap_add_output_filter(kFilter, nullptr, nullptr, connection) != nullptr;
}

void add_offload_close_filter(request_rec* request) {
  if (!offload_anywhere) return;
  const Settings& settings = settings_of(request->server);
  if (request->main == nullptr && request->connection->master == nullptr && settings.enabled &&
      settings.offload && settings.offload_close > 0) {
    ap_add_output_filter(kCloseFilter, nullptr, request, request->connection);
  }
}

bool may_offload(const request_rec* request) {
  return offload_anywhere && is_plain_http(request);
}

bool send_backlog_here(conn_rec* connection, Offload& offload) {
  if (offload.backlog.empty()) return true;
  // Without a scoreboard handle this is the listener thread of an older event, which must not wait.
  if (connection->sbh == nullptr) {
    connection->aborted = 1;
    return false;
  }
  return wait_until_left(connection, offload.backlog, 0) == APR_SUCCESS;
}

}  // namespace lingerd
