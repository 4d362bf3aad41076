// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/keepalive/departure.h"

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>
#include <http_log.h>
#include <util_filter.h>

#include <cerrno>

#include "base/clock.h"
#include "contract/counters.h"
#include "contract/record.h"
#include "mod_linger/child.h"
#include "mod_linger/connection.h"
#include "mod_linger/keepalive/keepalive.h"
#include "mod_linger/keepalive/listener.h"
#include "mod_linger/keepalive/over_tls.h"
#include "mod_linger/keepalive/permit.h"
#include "mod_linger/keepalive/proof.h"
#include "mod_linger/keepalive/return_tag.h"
#include "mod_linger/keepalive/strangers.h"
#include "mod_linger/link/client.h"
#include "mod_linger/link/obstacle.h"
#include "mod_linger/module.h"
#include "mod_linger/settings.h"
#include "mod_linger/tls/parking.h"

namespace lingerd {
namespace {

Handoff idle_handoff(const Settings& settings, conn_rec* connection, apr_interval_time_t timeout,
                     std::uint64_t since_ns) {
  Handoff handoff = handoff_with(settings, since_ns);
  handoff.kind = RecordKind::kIdle;
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

struct OverTls {
  const TlsParking& parking;
  const SocketIdentity& identity;
  int fd;
};

// Its state first, then the socket. Only a record that has certainly not been sent gives the
// connection back to this process: two that went on with it would use the same numbers.
bool parks_over_tls(conn_rec* connection, Park& park, const OverTls& tls, Handoff& handoff) {
  const std::uint64_t until_ns = keep_until(monotonic_ns(), handoff.stall_ms);
  const std::uint64_t stay = tls.parking.deposit(connection, binding_of(tls.identity), until_ns);
  if (stay == 0) {
    ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection,
                  "not parked: there is no room for its TLS state");
    return false;
  }
  handoff.ticket = tag_for(tls.identity, handoff.keepalives, handoff.stall_ms, stay);
  handoff.over_tls = true;
  if (!send_away(connection, park, tls.fd, handoff) &&
      tls.parking.take_back(tls.identity.cookie, stay)) {
    return false;
  }
  if (park.parked) this_child().tally->count(ModuleCounter::kParkedTlsTotal);
  park.parked = true;
  connection->aborted = 1;
  tls.parking.left(connection);
  return true;
}

// Said once among all children, and again when it has been good meanwhile.
void say_refused(int error) {
  ap_log_error(APLOG_MARK, APLOG_WARNING, 0, this_child().main_server,
               "LingerKeepAlive has no effect for now: lingerd %s, so idle connections stay with "
               "their workers. lingerd's log says what to do; its next try is in some seconds",
               error == EACCES
                   ? "may not connect to httpd's private listener (AppArmor, SELinux or "
                     "permissions of a directory)"
                   : "doesn't take the way back to httpd's private listener");
}

// Whether it can give connections back, as it has found when that was announced to it.
bool has_way_back(std::uint64_t now_ns) {
  Child& child = this_child();
  const Client::Result result = child.client->announce(way_back(), now_ns, child.tally->times_up());
  const bool refused = result.obstacle == Obstacle::kRefused;
  if (refused && child.tally->found_way_back(false)) say_refused(result.error);
  if (!refused && result.fresh) announce(result.obstacle, result.error, now_ns);
  if (result.obstacle != Obstacle::kNone) return false;
  (void)child.tally->found_way_back(true);
  return true;
}

}  // namespace

bool anything_buffered(ap_filter_t* filter, Park& park) {
  if (filter->c->data_in_input_filters) return true;
  if (park.scratch == nullptr) {
    park.scratch = apr_brigade_create(filter->c->pool, filter->c->bucket_alloc);
  }
  const apr_status_t status =
      ap_get_brigade(filter->next, park.scratch, AP_MODE_SPECULATIVE, APR_NONBLOCK_READ, 1);
  const bool nothing = status == APR_SUCCESS && APR_BRIGADE_EMPTY(park.scratch);
  apr_brigade_cleanup(park.scratch);
  return !nothing;
}

bool reaches_lingerd(conn_rec* connection, std::uint64_t now_ns, Otherwise otherwise) {
  Child& child = this_child();
  if (child.client == nullptr) return false;
  const Client::Result result =
      child.client->reach(RecordKind::kIdle, now_ns, child.tally->times_up());
  if (result.fresh) announce(result.obstacle, result.error, now_ns);
  if (result.obstacle == Obstacle::kNone && lingerd_may_park(now_ns, otherwise) &&
      has_way_back(now_ns)) {
    return true;
  }
  ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection, "not parked: lingerd can't take it");
  return false;
}

bool can_be_parked_for(apr_interval_time_t timeout, std::uint32_t wait_ms) {
  return timeout > apr_time_from_msec(wait_ms) && timeout <= apr_time_from_msec(kMaxDurationMs);
}

bool has_stranger(conn_rec* connection) {
  const char* stranger = stranger_on(connection);
  if (stranger == nullptr) return false;
  ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection, "not parked: it has %s", stranger);
  return true;
}

bool parks(conn_rec* connection, Park& park, apr_interval_time_t timeout, std::uint64_t since_ns) {
  const int fd = socket_of(connection);
  if (fd < 0) return false;
  const Settings& settings = settings_of(server_of(connection));
  Handoff handoff = idle_handoff(settings, connection, timeout, since_ns);
  const auto identity = identity_of(connection, fd);
  if (!identity) {
    ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection,
                  "not parked: by its address it came through none of httpd's listeners");
    return false;
  }
  if (const TlsParking* tls = tls_parking_of(connection)) {
    return parks_over_tls(connection, park, {*tls, *identity, fd}, handoff);
  }
  handoff.ticket = tag_for(*identity, handoff.keepalives, handoff.stall_ms, 0);
  return send_away(connection, park, fd, handoff);
}

}  // namespace lingerd
