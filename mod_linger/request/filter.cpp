// SPDX-License-Identifier: Apache-2.0
#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>
#include <apr_tables.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <sys/socket.h>
#include <util_filter.h>

#include <new>

#include "contract/record.h"
#include "mod_linger/connection.h"
#include "mod_linger/module.h"
#include "mod_linger/request/gather.h"
#include "mod_linger/request/reader.h"
#include "mod_linger/request/request.h"
#include "mod_linger/settings.h"
#include "mod_linger/stay/come_back.h"
#include "mod_linger/stay/listener.h"
#include "mod_linger/stay/objections.h"
#include "mod_linger/stay/strangers.h"

namespace lingerd {
namespace {

constexpr char kFilter[] = "LINGER_REQUEST";

// mod_reqtimeout asks for the first byte of a later request, and then for lines without waiting;
// the core, and h2c, wait for what they ask for.
bool asks_for_a_request(ap_input_mode_t mode, apr_read_type_e block) {
  return mode == AP_MODE_GETLINE || (mode == AP_MODE_SPECULATIVE && block == APR_BLOCK_READ);
}

// As far as it has come, and no further.
apr_status_t read_what_came(ap_filter_t* filter, Request& request, apr_bucket_brigade* brigade,
                            ap_input_mode_t mode, apr_off_t bytes) {
  const apr_status_t status =
      read_from_socket(filter, request, brigade, mode, APR_NONBLOCK_READ, bytes);
  const bool nothing = APR_BRIGADE_EMPTY(brigade) && mode != AP_MODE_INIT;
  if (APR_STATUS_IS_EAGAIN(status) || (status == APR_SUCCESS && nothing)) {
    // As mod_reqtimeout does: the error status may be ignored, if it was a body to be discarded.
    filter->c->keepalive = AP_CONN_CLOSE;
    request.is_cut_off = true;
    return APR_TIMEUP;
  }
  return status;
}

// An idle connection is parking's; one that is new and silent is ours.
bool is_idle(conn_rec* connection) {
  if (connection->keepalives == 0) return false;
  const Unread unread = look_at(socket_of(connection));
  return unread.front.empty() && !unread.is_over;
}

apr_status_t request_filter(ap_filter_t* filter, apr_bucket_brigade* brigade, ap_input_mode_t mode,
                            apr_read_type_e block, apr_off_t bytes) {
  Connection* ours = connection_of(filter->c);
  if (ours == nullptr || ours->request == nullptr || ours->request->is_cores) {
    return ap_get_brigade(filter->next, brigade, mode, block, bytes);
  }
  if (ours->gone) return APR_EOF;
  Request& request = *ours->request;
  // So httpd asks between two requests: the one that was late has come all the same.
  if (mode == AP_MODE_SPECULATIVE && block == APR_NONBLOCK_READ) request.timed_out = false;
  if (request.timed_out) return read_what_came(filter, request, brigade, mode, bytes);
  if (request.begins && asks_for_a_request(mode, block)) {
    if (is_idle(filter->c)) {
      if (mode != AP_MODE_GETLINE) {
        return read_from_socket(filter, request, brigade, mode, block, bytes);
      }
      if (block == APR_NONBLOCK_READ) return APR_SUCCESS;
      const apr_status_t status = wait_for_more(filter->c);
      if (status != APR_SUCCESS) return status;
    }
    request.begins = false;
    if (gathers(filter->c, request)) return APR_EOF;
  }
  return read_from_socket(filter, request, brigade, mode, block, bytes);
}

// What lingerd has said of a connection that comes back with a request.
void restore_request(conn_rec* connection, Request& request) {
  const Return* back = return_of(ap_get_conn_socket(connection));
  if (back == nullptr || back->waited_for == WaitedFor::kNextRequest) return;
  const int one = 1;  // it may have been told to wait for more
  setsockopt(socket_of(connection), SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
  using MayWait = Request::MayWait;
  const bool has_head = back->waited_for == WaitedFor::kHead && back->outcome == Outcome::kCame;
  request.may_wait = has_head ? MayWait::kForBody : MayWait::kNoMore;
  request.timed_out = back->outcome == Outcome::kTimedOut;
}

// Whether nothing is between this filter and the core's. That one makes what it keeps for a
// connection when it is first asked, and httpd counts on it after a bad request line: so it is
// asked, in a way that it doesn't know, and does nothing.
bool takes_the_cores_place(ap_filter_t* filter, Request& request) {
  constexpr auto kNoMode = static_cast<ap_input_mode_t>(7);
  if (filter == nullptr || filter->next == nullptr ||
      filter->next->frec != ap_core_input_filter_handle) {
    return false;
  }
  return ap_get_brigade(filter->next, request.kept, kNoMode, APR_NONBLOCK_READ, 0) == APR_SUCCESS;
}

}  // namespace

void register_request_filter() {
  ap_register_input_filter(kFilter, request_filter, nullptr,
                           static_cast<ap_filter_type>(AP_FTYPE_NETWORK - 1));
}

int add_request_filter(conn_rec* connection) {
  Connection* ours = way_back() >= 0 ? connection_of(connection) : nullptr;
  if (ours == nullptr || ours->request != nullptr) return DECLINED;
  const Settings& settings = settings_of(connection->base_server);
  const Return* back = return_of(ap_get_conn_socket(connection));
  const bool comes_back = back != nullptr && back->waited_for != WaitedFor::kNextRequest;
  const bool is_on = settings.enabled && settings.request && may_stay();
  if (!comes_back && (!is_on || has_unknown_filter(connection))) return DECLINED;
  ours->request = new (apr_palloc(connection->pool, sizeof(Request))) Request;
  ours->request->kept = apr_brigade_create(connection->pool, connection->bucket_alloc);
  restore_request(connection, *ours->request);
  ap_filter_t* filter = ap_add_input_filter(kFilter, nullptr, nullptr, connection);
  ours->request->is_cores = !takes_the_cores_place(filter, *ours->request);
  return DECLINED;
}

int note_cut_off(conn_rec* connection) {
  const Connection* ours = connection_of(connection);
  if (ours == nullptr || ours->request == nullptr || !ours->request->is_cut_off) return DECLINED;
  if (apr_table_get(connection->notes, "short-lingering-close") != nullptr) return DECLINED;
  apr_table_setn(connection->notes, "short-lingering-close", "1");
  ap_log_cerror(APLOG_MARK, APLOG_INFO, 0, connection, "Request read timeout");
  return DECLINED;
}

int note_request(request_rec* request) {
  const bool is_clients = request->main == nullptr && request->prev == nullptr;
  Connection* ours = is_clients ? connection_of(request->connection) : nullptr;
  if (ours == nullptr || ours->request == nullptr || request->connection->master != nullptr) {
    return OK;
  }
  Request& known = *ours->request;
  if (!known.is_first) {
    known.begins = true;
    known.may_wait = Request::MayWait::kForHead;
    known.timed_out = false;
  }
  known.is_first = false;
  return OK;
}

}  // namespace lingerd
