// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/departure.h"

#include <httpd.h>  // before the others, which need it

#include <http_log.h>

#include <cerrno>

#include "base/clock.h"
#include "contract/counters.h"
#include "contract/record.h"
#include "mod_linger/child.h"
#include "mod_linger/connection.h"
#include "mod_linger/link/client.h"
#include "mod_linger/link/obstacle.h"
#include "mod_linger/module.h"
#include "mod_linger/stay/features.h"
#include "mod_linger/stay/listener.h"
#include "mod_linger/stay/over_tls.h"
#include "mod_linger/stay/permit.h"
#include "mod_linger/stay/proof.h"
#include "mod_linger/stay/return_tag.h"
#include "mod_linger/stay/strangers.h"
#include "mod_linger/tls/parking.h"

namespace lingerd {
namespace {

const char* not_done(RecordKind kind) {
  return kind == RecordKind::kIdle ? "not parked" : "not gathered";
}

bool send_away(conn_rec* connection, int fd, const Handoff& handoff) {
  Child& child = this_child();
  const std::uint64_t now_ns = monotonic_ns();
  const Client::Result result =
      child.client->park(fd, way_back(), handoff, now_ns, child.tally->times_up());
  if (result.obstacle != Obstacle::kNone) {
    if (result.fresh) announce(result.obstacle, result.error, now_ns);
    return false;
  }
  // Everybody leaves the socket alone from here on; the MPM closes this process's copy.
  connection_of(connection)->gone = true;
  connection->aborted = 1;
  announce_up();
  return true;
}

// Its state first, then the socket. Only a record that has certainly not been sent gives the
// connection back to this process: two that went on with it would use the same numbers.
bool departs_over_tls(conn_rec* connection, const TlsParking& tls, const SocketIdentity& identity,
                      Handoff& handoff) {
  const std::uint64_t until_ns = keep_until(monotonic_ns(), handoff.stall_ms);
  const std::uint64_t stay = tls.deposit(connection, binding_of(identity), until_ns);
  if (stay == 0) {
    ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection,
                  "not parked: there is no room for its TLS state");
    return false;
  }
  handoff.ticket = tag_for(identity, handoff.keepalives, handoff.stall_ms, stay);
  handoff.over_tls = true;
  const bool sent = send_away(connection, socket_of(connection), handoff);
  if (!sent && tls.take_back(identity.cookie, stay)) return false;
  if (sent) this_child().tally->count(ModuleCounter::kParkedTlsTotal);
  connection_of(connection)->gone = true;
  connection->aborted = 1;
  tls.left(connection);
  return true;
}

// Said once among all children, and again when it has been good meanwhile.
void say_refused(int error) {
  server_rec* server = this_child().main_server;
  const Features features = features_of(server);
  ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
               "%s no effect for now: lingerd %s, so %s stay with their workers. lingerd's log "
               "says what to do; its next try is in some seconds",
               features.have(),
               error == EACCES
                   ? "may not connect to httpd's private listener (AppArmor, SELinux or "
                     "permissions of a directory)"
                   : "doesn't take the way back to httpd's private listener",
               features.keep_alive ? "idle connections" : "slow requests");
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

bool reaches_lingerd(conn_rec* connection, RecordKind kind, std::uint64_t now_ns,
                     Otherwise otherwise) {
  Child& child = this_child();
  if (child.client == nullptr) return false;
  const Client::Result result = child.client->reach(kind, now_ns, child.tally->times_up());
  if (result.fresh) announce(result.obstacle, result.error, now_ns);
  if (result.obstacle == Obstacle::kNone && lingerd_may_park(now_ns, otherwise) &&
      has_way_back(now_ns)) {
    return true;
  }
  ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection, "%s: lingerd can't take it",
                not_done(kind));
  return false;
}

bool has_stranger(conn_rec* connection, RecordKind kind) {
  const char* stranger = stranger_on(connection, kind);
  if (stranger == nullptr) return false;
  ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection, "%s: it has %s", not_done(kind), stranger);
  return true;
}

bool departs(conn_rec* connection, Handoff handoff) {
  const int fd = socket_of(connection);
  if (fd < 0) return false;
  const auto identity = identity_of(connection, fd);
  if (!identity) {
    ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection,
                  "%s: by its address it came through none of httpd's listeners",
                  not_done(handoff.kind));
    return false;
  }
  if (const TlsParking* tls = tls_parking_of(connection)) {
    return departs_over_tls(connection, *tls, *identity, handoff);
  }
  handoff.ticket = tag_for(*identity, handoff.keepalives, handoff.stall_ms, 0);
  return send_away(connection, fd, handoff);
}

}  // namespace lingerd
