// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/park.h"

#include <apr_portable.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <poll.h>
#include <sys/socket.h>
#include <util_filter.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>

#include "lingerd/stats_reader.h"
#include "mod_linger/child.h"
#include "mod_linger/connection.h"
#include "mod_linger/module.h"
#include "mod_linger/returns.h"
#include "mod_linger/settings.h"
#include "mod_linger/strangers.h"

namespace lingerd {
namespace {

constexpr char kFilter[] = "LINGER_PARK";

// A lingerd that is stopped or stuck keeps what it is given. Its page says so after some seconds;
// looking every time would cost more than the rest of a hand-off.
bool lingerd_is_up(std::uint64_t now_ns) {
  constexpr std::uint64_t kLookEveryNs = 100'000'000;
  static std::atomic<std::uint64_t> looked_ns{0};
  static std::atomic<bool> up{false};
  const std::uint64_t before = looked_ns.load(std::memory_order_relaxed);
  if (before == 0 || now_ns >= before + kLookEveryNs) {
    const std::string page = std::string(this_child().socket_path) + ".stats";
    up.store(read_stats(page.c_str(), now_ns).liveness == Liveness::kUp, std::memory_order_relaxed);
    looked_ns.store(now_ns, std::memory_order_relaxed);
  }
  return up.load(std::memory_order_relaxed);
}

// Read ahead by the core's filter, or in the kernel.
bool anything_buffered(ap_filter_t* filter, Park& park) {
  if (park.scratch == nullptr) {
    park.scratch = apr_brigade_create(filter->c->pool, filter->c->bucket_alloc);
  }
  const apr_status_t status =
      ap_get_brigade(filter->next, park.scratch, AP_MODE_SPECULATIVE, APR_NONBLOCK_READ, 1);
  const bool nothing = status == APR_SUCCESS && APR_BRIGADE_EMPTY(park.scratch);
  apr_brigade_cleanup(park.scratch);
  return !nothing;
}

// Something comes, or the client closes, within `wait_ms`.
bool becomes_readable(int fd, std::uint32_t wait_ms) {
  pollfd waiting{fd, POLLIN | POLLRDHUP, 0};
  return poll(&waiting, 1, static_cast<int>(wait_ms)) != 0;  // a signal: let httpd look
}

Handoff idle_handoff(const Settings& settings, conn_rec* connection, apr_interval_time_t timeout,
                     std::uint64_t since_ns) {
  Handoff handoff;
  handoff.kind = RecordKind::kIdle;
  handoff.idle_ms = settings.idle_ms;
  handoff.cap_ms = settings.cap_ms;
  handoff.handed_off_ns = since_ns;
  handoff.stall_ms = static_cast<std::uint32_t>(apr_time_as_msec(timeout));
  handoff.keepalives = static_cast<std::uint32_t>(connection->keepalives);
  return handoff;
}

bool send_away(conn_rec* connection, Park& park, int fd, const Handoff& handoff) {
  Child& child = this_child();
  const std::uint64_t now_ns = monotonic_ns();
  const Client::Result result =
      child.client->park(fd, way_back(), handoff, now_ns, child.tally->times_up());
  if (result.obstacle != Obstacle::kNone) {
    if (result.fresh) announce(result.obstacle, result.error, now_ns);
    return false;
  }
  park.parked = true;
  // Everybody leaves the socket alone from here on; the MPM closes this process's copy.
  connection->aborted = 1;
  announce_up();
  ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection,
                "parked after %d requests, for at most %u ms", connection->keepalives,
                handoff.stall_ms);
  return true;
}

bool reaches_lingerd(std::uint64_t now_ns) {
  Child& child = this_child();
  if (child.client == nullptr) return false;
  const Client::Result result =
      child.client->reach(RecordKind::kIdle, now_ns, child.tally->times_up());
  if (result.fresh) announce(result.obstacle, result.error, now_ns);
  return result.obstacle == Obstacle::kNone && lingerd_is_up(now_ns);
}

bool can_be_parked_for(apr_interval_time_t timeout, std::uint32_t wait_ms) {
  return timeout > apr_time_from_msec(wait_ms) && timeout <= apr_time_from_msec(kMaxDurationMs);
}

// True: the connection has gone. `filter` is ours.
bool parks(ap_filter_t* filter, Park& park, apr_interval_time_t timeout, std::uint64_t since_ns) {
  conn_rec* connection = filter->c;
  const int fd = socket_of(connection);
  if (fd < 0) return false;
  if (const char* stranger = stranger_on(connection)) {
    ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection, "not parked: it has %s", stranger);
    return false;
  }
  if (!reaches_lingerd(since_ns)) {
    ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection, "not parked: lingerd can't take it");
    return false;
  }
  if (anything_buffered(filter, park)) return false;
  const Settings& settings = settings_of(server_of(connection));
  return send_away(connection, park, fd, idle_handoff(settings, connection, timeout, since_ns));
}

// Who has thought for long will do so again: waiting for him would keep a worker from others. Who
// asks and asks gets more patience: a trip to lingerd costs more than a few requests, and a busy
// machine makes every client look slow.
std::uint32_t worth_waiting(const Park& park, std::uint32_t after_ms) {
  constexpr std::uint32_t kLongStay = 4;
  constexpr std::uint32_t kBurst = 4;
  constexpr std::uint32_t kPatience = 4;
  constexpr std::uint32_t kMostPatienceMs = 100;
  if (park.last_stay_ms > kLongStay * after_ms) return 0;
  if (park.quick < kBurst) return after_ms;
  return std::max(after_ms, std::min(kPatience * after_ms, kMostPatienceMs));
}

// The next request is asked for. httpd has set the socket's timeout for this wait: KeepAliveTimeout
// of the last request's server. Most requests of a client that doesn't think come before the wait
// is over: up to there this does what httpd would, one poll(2), and no more.
bool parks_instead_of_waiting(ap_filter_t* filter, Park& park) {
  conn_rec* connection = filter->c;
  const std::uint32_t wait_ms =
      worth_waiting(park, settings_of(server_of(connection)).keep_alive_after_ms);
  park.last_stay_ms = 0;
  if (connection->data_in_input_filters) return false;  // pipelined
  apr_interval_time_t timeout = -1;
  apr_socket_t* socket = ap_get_conn_socket(connection);
  if (socket == nullptr || apr_socket_timeout_get(socket, &timeout) != APR_SUCCESS ||
      !can_be_parked_for(timeout, wait_ms)) {
    return false;
  }
  const std::uint64_t since_ns = monotonic_ns();
  if (becomes_readable(socket_of(connection), wait_ms)) {
    ++park.quick;
    apr_socket_opt_set(socket, APR_INCOMPLETE_READ, 0);  // it needn't wait once more
    return false;
  }
  return parks(filter, park, timeout, since_ns);
}

apr_status_t park_filter(ap_filter_t* filter, apr_bucket_brigade* brigade, ap_input_mode_t mode,
                         apr_read_type_e block, apr_off_t bytes) {
  if (Connection* ours = connection_of(filter->c)) {
    Park& park = ours->park;
    if (park.parked) return APR_EOF;
    // mod_reqtimeout asks for the first byte, the core for a line.
    const bool waits =
        block == APR_BLOCK_READ && (mode == AP_MODE_GETLINE || mode == AP_MODE_SPECULATIVE);
    if (park.idle_next && waits) {
      park.idle_next = false;
      if (parks_instead_of_waiting(filter, park)) return APR_EOF;
    }
  }
  return ap_get_brigade(filter->next, brigade, mode, block, bytes);
}

ap_filter_t* our_filter(conn_rec* connection) {
  ap_filter_t* filter = connection->input_filters;
  while (filter != nullptr && filter->frec->filter_func.in_func != park_filter)
    filter = filter->next;
  return filter;
}

bool begins_with(const char* text, const char* word) {
  return text != nullptr && strncasecmp(text, word, std::strlen(word)) == 0;
}

// Schemes that authenticate the connection, not the request.
bool binds_connection(const char* credentials) {
  return begins_with(credentials, "NTLM") || begins_with(credentials, "Negotiate");
}

bool binds_connection(const request_rec* request) {
  for (const char* name : {"Authorization", "Proxy-Authorization"}) {
    if (binds_connection(apr_table_get(request->headers_in, name))) return true;
  }
  for (const char* name : {"WWW-Authenticate", "Proxy-Authenticate"}) {
    if (binds_connection(apr_table_get(request->err_headers_out, name)) ||
        binds_connection(apr_table_get(request->headers_out, name))) {
      return true;
    }
  }
  return false;
}

}  // namespace

void register_park_filter() {
  ap_register_input_filter(kFilter, park_filter, nullptr,
                           static_cast<ap_filter_type>(AP_FTYPE_NETWORK - 1));
}

void add_park_filter(conn_rec* connection) {
  if (way_back() >= 0) ap_add_input_filter(kFilter, nullptr, nullptr, connection);
}

bool parks_instead_of_closing(conn_rec* connection, Park& park) {
  if (!park.idle_next || connection->aborted || connection->keepalive != AP_CONN_KEEPALIVE) {
    return false;
  }
  park.idle_next = false;
  ap_filter_t* filter = our_filter(connection);
  const server_rec* server = server_of(connection);
  if (!server->keep_alive_timeout_set) server = connection->base_server;
  return filter != nullptr && can_be_parked_for(server->keep_alive_timeout, 0) &&
         parks(filter, park, server->keep_alive_timeout, monotonic_ns());
}

int note_for_parking(request_rec* request) {
  conn_rec* connection = request->connection;
  Connection* ours = connection_of(connection);
  if (ours == nullptr || way_back() < 0) return DECLINED;
  const Settings& settings = settings_of(request->server);
  ours->park.idle_next = settings.enabled && settings.keep_alive &&
                         connection->keepalive == AP_CONN_KEEPALIVE && is_plain_http(request) &&
                         !binds_connection(request);
  return DECLINED;
}

}  // namespace lingerd
