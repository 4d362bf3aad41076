// SPDX-License-Identifier: Apache-2.0
// The hot path of the module. In order: everybody's goodbye (HTTP/2's GOAWAY), the flush (which
// makes mod_ssl send close_notify), our FIN, a look whether the client has closed already, and the
// hand-off. Each connection ends in exactly one counter of ModuleCounter.
#include "mod_linger/handoff.h"

#include <httpd.h>  // before the others, which need it

#include <http_connection.h>
#include <http_core.h>
#include <http_log.h>
#include <sched.h>
#include <scoreboard.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <span>

#include "mod_linger/child.h"
#include "mod_linger/connection.h"
#include "mod_linger/module.h"
#include "mod_linger/settings.h"

namespace lingerd {
namespace {

constexpr std::uint32_t kShortLingerMs = 2'000;  // as httpd's SECONDS_TO_LINGER

// What ends Apache's own lingering close: prefork, worker and event then close their copy at once.
// Nothing else does: the core has fetched the socket before it runs this hook, and ignores what the
// hook returns.
void end_apaches_linger(conn_rec* connection) {
  connection->aborted = 1;
}

void show_status(conn_rec* connection, int status) {
  if (connection->sbh == nullptr) return;
  ap_update_child_status(static_cast<ap_sb_handle_t*>(connection->sbh), status, nullptr);
}

// Sends what is left, as the core would right after this hook.
void flush(conn_rec* connection) {
  show_status(connection, SERVER_CLOSING);
  ap_flush_conn(connection);
}

// A suspended connection (no scoreboard handle) that older event MPMs close from their listener
// thread, which must not wait for a slow client.
bool would_block_listener(const conn_rec* connection) {
  return connection->sbh == nullptr && connection->data_in_output_filters;
}

// The client's FIN, or its RST, is there: nothing to wait for.
bool client_has_closed(int fd) {
  char byte = 0;
  const ssize_t n = recv(fd, &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT);
  return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

Handoff handoff_for(conn_rec* connection, const Settings& settings, std::uint64_t now_ns) {
  Handoff handoff;
  handoff.idle_ms = settings.idle_ms;
  handoff.cap_ms = settings.cap_ms;
  if (apr_table_get(connection->notes, "short-lingering-close") != nullptr) {
    handoff.cap_ms = std::min(handoff.cap_ms, kShortLingerMs);
  }
  handoff.handed_off_ns = now_ns;
  return handoff;
}

const char* words(Obstacle obstacle) {
  switch (obstacle) {
    case Obstacle::kDown: return "lingerd is down";
    case Obstacle::kOtherVersion: return "lingerd is of another version";
    case Obstacle::kBusy: return "lingerd is busy";
    case Obstacle::kGreeting: return "lingerd has not answered yet";
    case Obstacle::kRefused: return "lingerd has refused it";
    case Obstacle::kDenied: return "access to lingerd is denied";
    case Obstacle::kNone: break;
  }
  return "nothing";
}

void fall_back(conn_rec* connection, const Settings& settings, const Client::Result& result,
               std::uint64_t now_ns) {
  Child& child = this_child();
  // The state first: the connections that fall back are counted from its change on.
  if (result.fresh) announce(result.obstacle, result.error, now_ns);
  child.tally->count_fallback(result.obstacle, now_ns);
  const bool close = settings.fallback == Fallback::kClose;
  if (close) end_apaches_linger(connection);
  ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection, "left to Apache: %s%s",
                words(result.obstacle), close ? ", closed at once" : "");
}

// A worker that lingers itself sleeps once a connection; one that hands off may never sleep at all
// while there is work. On a saturated machine the scheduler then takes the processor away when a
// time slice (some 3 ms) is over, mostly in the middle of a request, and that request waits for all
// the others' slices: p99 was up to 3 times stock's. Giving way between two connections keeps the
// waits out of the requests. Once a millisecond is enough, and more would cost: newer kernels let
// who yields pay with processor time, if other programs want it. The scoreboard says "waiting for a
// connection" meanwhile, which is what this worker is free for.
void give_way(conn_rec* connection) {
  constexpr std::uint64_t kSliceNs = 1'000'000;
  thread_local std::uint64_t since = 0;
  if (monotonic_ns() - since < kSliceNs) return;
  show_status(connection, SERVER_READY);
  sched_yield();
  since = monotonic_ns();
}

void count_broken(conn_rec* connection) {
  this_child().tally->count(ModuleCounter::kAborted);
  ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection,
                "left to Apache: the connection broke before its last byte");
}

// The FIN, and then the socket's way.
void part_with(conn_rec* connection, const Settings& settings, int fd) {
  Child& child = this_child();
  const std::uint64_t fin_ns = monotonic_ns();
  // The FIN is ours, so that a client that waits for the response's end never waits for lingerd.
  if (shutdown(fd, SHUT_WR) != 0 || client_has_closed(fd)) {
    child.tally->count(ModuleCounter::kAlreadyClosed);
    end_apaches_linger(connection);
    ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection, "already closed by the client");
    return;
  }
  Handoff handoff = handoff_for(connection, settings, fin_ns);
  handoff.fallbacks = child.tally->take_unreported();
  const Client::Result result =
      child.client->hand_off(fd, handoff, fin_ns, child.tally->times_up());
  if (result.obstacle != Obstacle::kNone) {
    child.tally->give_back_unreported(handoff.fallbacks);
    fall_back(connection, settings, result, fin_ns);
    return;
  }
  end_apaches_linger(connection);
  const std::uint64_t took_ns = monotonic_ns() - fin_ns;
  child.tally->count_handoff(fin_ns, took_ns);
  announce_up();
  ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection,
                "handed off to lingerd in %" APR_UINT64_T_FMT
                " us (LingerTimeout %u ms, "
                "LingerTime %u ms)",
                static_cast<apr_uint64_t>(took_ns / 1'000), handoff.idle_ms, handoff.cap_ms);
}

std::uint32_t stall_ms_for(const Settings& settings, const server_rec* server) {
  if (settings.offload_stall_ms != 0) return settings.offload_stall_ms;
  return static_cast<std::uint32_t>(
      std::clamp<apr_int64_t>(apr_time_as_msec(server->timeout), 1, kMaxDurationMs));
}

Client::Result offer(Backlog& backlog, Handoff handoff, int fd) {
  if (!backlog.seal()) return {Obstacle::kRefused, errno, false};
  const Child& child = this_child();
  handoff.content_offset = backlog.offset();
  handoff.content_length = backlog.left();
  return child.client->deliver(fd, backlog.descriptor(), handoff, monotonic_ns(),
                               child.tally->times_up());
}

// The socket goes with the rest of the response, and lingerd sends the FIN behind it. False: what
// is left by now has to be sent here, and then the socket goes the usual way.
bool deliver(conn_rec* connection, Backlog& backlog, const Settings& settings,
             const server_rec* server, int fd) {
  Child& child = this_child();
  const std::uint64_t now_ns = monotonic_ns();
  if (backlog.send(fd) != Backlog::Result::kWouldBlock) return false;
  Handoff handoff = handoff_for(connection, settings, now_ns);
  handoff.stall_ms = stall_ms_for(settings, server);
  Client::Result result = offer(backlog, handoff, fd);
  // A file of another kind of file system, or one that a policy (SELinux) keeps from lingerd.
  if (result.obstacle == Obstacle::kRefused && result.error == EBADF && backlog.is_file() &&
      backlog.left() <= settings.offload_max && backlog.read_file() == Backlog::Result::kDone) {
    result = offer(backlog, handoff, fd);
  }
  if (result.obstacle != Obstacle::kNone) {
    ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection, "the rest is left to Apache: %s",
                  words(result.obstacle));
    if (result.fresh) announce(result.obstacle, result.error, now_ns);
    return false;
  }
  end_apaches_linger(connection);
  child.tally->count_handoff(now_ns, monotonic_ns() - now_ns);
  announce_up();
  ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection,
                "handed off to lingerd with %" APR_UINT64_T_FMT " bytes to deliver",
                static_cast<apr_uint64_t>(backlog.left()));
  return true;
}

}  // namespace

int pre_close(conn_rec* connection) {
  Connection* ours = connection_of(connection);
  Child& child = this_child();
  if (ours == nullptr || child.client == nullptr) return DECLINED;
  if (ours->closing) return DECLINED;  // the chain that we run ourselves, below
  if (ours->park.parked || parks_instead_of_closing(connection, ours->park)) {
    give_way(connection);
    return DONE;  // it isn't closing, it is lingerd's
  }
  ours->closing = true;

  const server_rec* server = server_of(connection);
  const Settings& settings = settings_of(server);
  if (!settings.enabled) {
    child.tally->count(ModuleCounter::kLeftOff);
    ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection, "left to Apache: Linger Off");
    return DECLINED;
  }

  // mod_http2 hooks in last and returns DONE, which ends the chain: a hook behind it never sees an
  // HTTP/2 connection, and a flush before it would lose its GOAWAY. So everybody else goes first,
  // and our DONE keeps the core from running them again.
  ap_run_pre_close_connection(connection);
  if (would_block_listener(connection)) {
    child.tally->count_fallback(Obstacle::kBusy, monotonic_ns());
    return DONE;
  }
  if (!connection->aborted) flush(connection);
  const int fd = socket_of(connection);
  if (connection->aborted || fd < 0) {
    count_broken(connection);
    return DONE;
  }
  Offload& offload = ours->offload;
  if (!offload.backlog.empty() && !deliver(connection, offload.backlog, settings, server, fd) &&
      !send_backlog_here(connection, offload)) {
    count_broken(connection);
    return DONE;
  }
  if (!connection->aborted) part_with(connection, settings, fd);
  if (connection->aborted) give_way(connection);
  return DONE;
}

}  // namespace lingerd
