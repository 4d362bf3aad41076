// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/keepalive/park.h"

#include <apr_buckets.h>
#include <http_core.h>
#include <poll.h>
#include <util_filter.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <new>
#include <string_view>

#include "base/clock.h"
#include "contract/record.h"
#include "mod_linger/child.h"
#include "mod_linger/connection.h"
#include "mod_linger/keepalive/authentication.h"
#include "mod_linger/keepalive/idle.h"
#include "mod_linger/keepalive/keepalive.h"
#include "mod_linger/keepalive/patience.h"
#include "mod_linger/settings.h"
#include "mod_linger/stay/come_back.h"
#include "mod_linger/stay/departure.h"
#include "mod_linger/stay/listener.h"
#include "mod_linger/stay/objections.h"
#include "mod_linger/stay/over_tls.h"
#include "mod_linger/stay/permit.h"
#include "mod_linger/tls/parking.h"

namespace lingerd {
namespace {

constexpr char kFilter[] = "LINGER_PARK";

Park* park_of(conn_rec* connection) {
  const Connection* ours = connection_of(connection);
  return ours != nullptr ? ours->park : nullptr;
}

// Something comes, or the client closes, within `wait_ms`. A signal ends the wait: prefork's child
// gets one when it is to end, and the connection had better go before it.
//
// On a machine with more to do than processors the wait takes much longer than it should. Then the
// client, which has to wait for a processor as well, or what is between, has had no chance, and a
// trip to lingerd would only be more work: it gets another.
bool becomes_readable(int fd, std::uint32_t wait_ms, std::uint64_t since_ns) {
  constexpr int kChances = 4;
  pollfd waiting{fd, POLLIN | POLLRDHUP, 0};
  const std::uint64_t much_longer_ns = std::uint64_t{wait_ms} * 1'500'000;
  for (int i = 0; i < kChances; ++i) {
    const int ready = poll(&waiting, 1, static_cast<int>(wait_ms));
    if (ready != 0) return ready > 0;
    const std::uint64_t now_ns = monotonic_ns();
    if (wait_ms == 0 || now_ns - since_ns <= much_longer_ns) break;
    since_ns = now_ns;
  }
  return false;
}

// KeepAliveTimeout of the last request's server, to which httpd has set the socket's timeout; or as
// lingerd brought it back, where not even a line has come since.
apr_interval_time_t timeout_of(const Park& park, apr_socket_t* socket) {
  if (park.came_back_with > 0) return park.came_back_with;
  apr_interval_time_t timeout = -1;
  return apr_socket_timeout_get(socket, &timeout) == APR_SUCCESS ? timeout : -1;
}

// `since_ns`: when it became idle.
bool goes(ap_filter_t* filter, Park& park, apr_interval_time_t timeout, std::uint64_t since_ns,
          std::uint64_t now_ns) {
  return reaches_lingerd(filter->c, RecordKind::kIdle, now_ns, Otherwise::kWaits) &&
         !anything_buffered(filter, park) && parks(filter->c, timeout, since_ns);
}

// lingerd can't take it: it is being restarted, is busy, or stands still. That passes, and the
// worker isn't held for all of KeepAliveTimeout because of a moment: it waits as httpd would, and
// asks again now and then. To the end, because the socket's timeout is that of each part of the
// request's line: one that begins at the last moment gets as much time as any other.
bool goes_later(ap_filter_t* filter, Park& park, apr_interval_time_t timeout,
                std::uint64_t since_ns) {
  constexpr apr_interval_time_t kAskAgain = apr_time_from_msec(500);
  for (;;) {
    const std::uint64_t now_ns = monotonic_ns();
    const auto left = timeout - static_cast<apr_interval_time_t>((now_ns - since_ns) / 1'000);
    const auto wait = std::clamp<apr_interval_time_t>(left + 999, 0, kAskAgain);
    // Its number each time: a thread of a process that is told to end may find it closed.
    const int fd = socket_of(filter->c);
    if (fd < 0 || becomes_readable(fd, static_cast<std::uint32_t>(wait / 1'000), now_ns)) {
      return false;
    }
    if (left <= 0) {  // httpd finds that out itself
      apr_socket_timeout_set(ap_get_conn_socket(filter->c), apr_time_from_msec(1));
      return false;
    }
    if (left > kAskAgain && goes(filter, park, timeout, since_ns, monotonic_ns())) return true;
  }
}

// A trip costs more over TLS, so that it pays after a longer wait only.
std::uint32_t after_ms_of(conn_rec* connection) {
  const server_rec* server = server_of(connection);
  const TlsParking* tls = tls_parking_of(connection);
  return tls != nullptr ? tls->after_ms(server) : settings_of(server).keep_alive_after_ms;
}

// The next request is asked for. Most requests of a client that doesn't think come before the wait
// is over: up to there this does what httpd would, one poll(2), and no more.
bool parks_instead_of_waiting(ap_filter_t* filter, Park& park) {
  conn_rec* connection = filter->c;
  const std::uint32_t after_ms = after_ms_of(connection);
  const std::uint32_t wait_ms = worth_waiting(park.habit, after_ms);
  note_stay(park.habit, after_ms);
  apr_socket_t* socket = ap_get_conn_socket(connection);
  if (connection->data_in_input_filters || socket == nullptr) return false;  // pipelined
  const apr_interval_time_t timeout = timeout_of(park, socket);
  if (!can_be_parked_for(timeout, wait_ms)) return false;
  const std::uint64_t since_ns = monotonic_ns();
  if (becomes_readable(socket_of(connection), wait_ms, since_ns)) {
    ++park.habit.quick;
    apr_socket_opt_set(socket, APR_INCOMPLETE_READ, 0);  // it needn't wait once more
    return false;
  }
  if (has_stranger(connection, RecordKind::kIdle)) return false;
  if (goes(filter, park, timeout, since_ns, since_ns)) return true;
  return !anything_buffered(filter, park) && goes_later(filter, park, timeout, since_ns);
}

// mod_reqtimeout asks for the first byte, the core for a line, mod_ssl for a record. After a blank
// line mod_reqtimeout asks without waiting, and waits itself; so does httpd when it looks for
// a request that is there already, and mod_ssl's question doesn't tell what httpd's was.
bool asks_for_a_request(bool over_tls, ap_input_mode_t mode, apr_read_type_e block) {
  if (mode == AP_MODE_GETLINE) return true;
  return block == APR_BLOCK_READ &&
         (mode == AP_MODE_SPECULATIVE || (over_tls && mode == AP_MODE_READBYTES));
}

// What ends it here, quietly. mod_ssl takes an end without the client's goodbye for an error.
apr_status_t end_of(bool over_tls) {
  return over_tls ? APR_TIMEUP : APR_EOF;
}

// CRLF or LF alone, which may come between two requests (RFC 9112, 2.2).
bool is_blank_line(apr_bucket_brigade* brigade) {
  std::array<char, 3> line{};
  apr_size_t size = line.size();
  if (apr_brigade_flatten(brigade, line.data(), &size) != APR_SUCCESS) return false;
  const std::string_view text(line.data(), size);
  return text == "\n" || text == "\r\n";
}

apr_status_t park_filter(ap_filter_t* filter, apr_bucket_brigade* brigade, ap_input_mode_t mode,
                         apr_read_type_e block, apr_off_t bytes) {
  Connection* ours = connection_of(filter->c);
  if (ours == nullptr || ours->park == nullptr) {
    return ap_get_brigade(filter->next, brigade, mode, block, bytes);
  }
  Park& park = *ours->park;
  if (ours->gone) return end_of(tls_parking_of(filter->c) != nullptr);
  if (park.idle_next) {
    const bool over_tls = tls_parking_of(filter->c) != nullptr;
    if (asks_for_a_request(over_tls, mode, block)) {
      park.idle_next = false;
      if (parks_instead_of_waiting(filter, park)) return end_of(over_tls);
    }
  }
  const apr_status_t status = ap_get_brigade(filter->next, brigade, mode, block, bytes);
  if (park.between && mode == AP_MODE_GETLINE && status == APR_SUCCESS) {
    park.between = park.idle_next = is_blank_line(brigade);
  }
  return status;
}

// A part of the line is there, so its rest gets Timeout as on event. Not more than
// KeepAliveTimeout, which is what stock prefork and worker give a line: a byte must not hold a
// worker for longer than it could without parking. Nothing for a connection that is new.
void restore_timeout(conn_rec* connection, Park& park) {
  apr_socket_t* socket = ap_get_conn_socket(connection);
  const Return* back = return_of(socket);
  if (back == nullptr || back->waited_for != WaitedFor::kNextRequest) return;
  park.habit.last_stay_ms = std::max<std::uint64_t>(back->parked_ns / 1'000'000, 1);
  park.came_back_with = apr_time_from_msec(back->keepalive_ms);
  park.between = true;
  apr_socket_timeout_set(socket, std::min(park.came_back_with, connection->base_server->timeout));
}

}  // namespace

void register_park_filter() {
  ap_register_input_filter(kFilter, park_filter, nullptr,
                           static_cast<ap_filter_type>(AP_FTYPE_NETWORK - 2));
}

ap_filter_t* park_filter_of(conn_rec* connection) {
  ap_filter_t* filter = connection->input_filters;
  while (filter != nullptr && filter->frec->filter_func.in_func != park_filter)
    filter = filter->next;
  return filter;
}

int add_park_filter(conn_rec* connection) {
  Connection* ours = way_back() >= 0 ? connection_of(connection) : nullptr;
  // HTTP/2 comes here several times.
  if (ours == nullptr || ours->park != nullptr) return DECLINED;
  ours->park = new (apr_palloc(connection->pool, sizeof(Park))) Park;
  if (may_be_parked()) ap_add_input_filter(kFilter, nullptr, nullptr, connection);
  restore_timeout(connection, *ours->park);
  return DECLINED;
}

int note_credentials(request_rec* request) {
  Park* park = may_be_parked() ? park_of(request->connection) : nullptr;
  if (park != nullptr && !park->authenticated) {
    park->authenticated = authenticates_connection(request);
  }
  return DECLINED;
}

int note_for_parking(request_rec* request) {
  conn_rec* connection = request->connection;
  Park* known = may_be_parked() ? park_of(connection) : nullptr;
  if (known == nullptr) return DECLINED;
  Park& park = *known;
  if (!park.authenticated) park.authenticated = offers_to_authenticate_connection(request);
  const Settings& settings = settings_of(request->server);
  const TlsParking* tls = tls_parking_of(connection);
  park.idle_next = settings.enabled && settings.keep_alive &&
                   connection->keepalive == AP_CONN_KEEPALIVE && is_plain_http(request) &&
                   !park.authenticated && (tls == nullptr || tls->wants(request));
  park.between = park.idle_next;
  park.came_back_with = 0;
  return DECLINED;
}

}  // namespace lingerd
