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

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/clock.h"
#include "base/errors.h"
#include "contract/counters.h"
#include "contract/record.h"
#include "mod_linger/child.h"
#include "mod_linger/closing.h"
#include "mod_linger/connection.h"
#include "mod_linger/link/client.h"
#include "mod_linger/link/obstacle.h"
#include "mod_linger/module.h"
#include "mod_linger/settings.h"

namespace lingerd {
namespace {

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
  return n == 0 || (n < 0 && !is_transient(errno));
}

void fall_back(const Closing& closing, const Client::Result& result, std::uint64_t now_ns) {
  Child& child = this_child();
  // The state first: the connections that fall back are counted from its change on.
  if (result.fresh) announce(result.obstacle, result.error, now_ns);
  child.tally->count_fallback(result.obstacle, now_ns);
  const bool close = closing.settings.fallback == Fallback::kClose;
  if (close) end_apaches_linger(closing.connection);
  ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, closing.connection, "left to Apache: %s%s",
                words_of(result.obstacle).brief, close ? ", closed at once" : "");
}

// A worker that lingers itself sleeps once a connection; one that hands off may never sleep at all
// while there is work. On a saturated machine the scheduler then takes the processor away when a
// time slice (some 3 ms) is over, mostly in the middle of a request, and that request waits for all
// the others' slices: p99 was up to 3 times stock's. Giving way between two connections keeps the
// waits out of the requests. Once a millisecond is enough, and more would cost: newer kernels let
// a thread that yields pay with processor time, if other programs want it. The scoreboard says
// "waiting for a connection" meanwhile, which is what this worker is free for.
//
// Not where the MPM is asynchronous: event counts its workers, and takes one that gives way for
// busy. With none idle it closes all its idle keep-alive connections at once, also those on which a
// request is under way: a proxy in front of it answers 502.
void give_way(conn_rec* connection) {
  constexpr std::uint64_t kSliceNs = 1'000'000;
  thread_local std::uint64_t since = 0;
  if (mpm_is_async()) return;
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
void part_with(const Closing& closing) {
  conn_rec* connection = closing.connection;
  Child& child = this_child();
  const std::uint64_t fin_ns = monotonic_ns();
  // The FIN is ours, so that a client that waits for the response's end never waits for lingerd.
  if (shutdown(closing.fd, SHUT_WR) != 0 || client_has_closed(closing.fd)) {
    child.tally->count(ModuleCounter::kAlreadyClosed);
    end_apaches_linger(connection);
    ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection, "already closed by the client");
    return;
  }
  Handoff handoff = linger_of(closing, fin_ns);
  handoff.fallbacks = child.tally->take_unreported();
  const Client::Result result =
      child.client->hand_off(closing.fd, handoff, fin_ns, child.tally->times_up());
  if (result.obstacle != Obstacle::kNone) {
    child.tally->give_back_unreported(handoff.fallbacks);
    // An ungraceful stop has closed the socket meanwhile, from another thread.
    if (result.obstacle == Obstacle::kRefused) {
      count_broken(connection);
      return;
    }
    fall_back(closing, result, fin_ns);
    return;
  }
  const std::uint64_t took_ns = note_handed_off(connection, fin_ns);
  ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection,
                "handed off to lingerd in %" APR_UINT64_T_FMT
                " us (LingerTimeout %u ms, LingerTime %u ms)",
                static_cast<apr_uint64_t>(took_ns / 1'000), handoff.idle_ms, handoff.cap_ms);
}

// What the client hasn't got yet, and then its socket. Each connection ends in one counter.
void part_with_client(Closing closing) {
  conn_rec* connection = closing.connection;
  const ClosingSteps& steps = closing_steps();
  const RestIs rest =
      steps.part_with_rest != nullptr ? steps.part_with_rest(closing) : RestIs::kNone;
  const bool lost =
      rest == RestIs::kLost || (rest == RestIs::kNone && connection->aborted) || closing.fd < 0;
  if (lost) {
    count_broken(connection);
  } else if (rest == RestIs::kNone) {
    closing.fd = socket_of(connection);  // asked for again: there may have been waits
    part_with(closing);
  }
  if (steps.end_request != nullptr) steps.end_request(closing, lost);
  if (!lost && connection->aborted) give_way(connection);
}

// What has hooked in behind us. What did before us has run already, and a hook that ran twice would
// say goodbye twice, or count a connection for two. Our own is known by its module's name.
void run_hooks_behind_ours(conn_rec* connection) {
  const apr_array_header_t* hooks = ap_hook_get_pre_close_connection();
  const std::span chain(reinterpret_cast<const ap_LINK_pre_close_connection_t*>(hooks->elts),
                        static_cast<std::size_t>(hooks->nelts));
  bool behind = false;
  for (const auto& hook : chain) {
    if (behind) {
      const int result = hook.pFunc(connection);
      if (result != OK && result != DECLINED) return;
    }
    if (hook.szName != nullptr && std::strcmp(hook.szName, linger_module.name) == 0) behind = true;
  }
}

}  // namespace

int pre_close(conn_rec* connection) {
  Connection* ours = connection_of(connection);
  Child& child = this_child();
  if (ours == nullptr || child.client == nullptr) return DECLINED;
  if (ours->closing) return DECLINED;  // somebody runs the hooks once more
  const auto goes_instead = closing_steps().goes_instead;
  if (ours->gone || (goes_instead != nullptr && goes_instead(connection, *ours))) {
    give_way(connection);
    return DECLINED;  // the socket is lingerd's; for the others it ends as an aborted one does
  }
  ours->closing = true;

  const server_rec* server = server_of(connection, ours);
  const Settings& settings = settings_of(server);
  if (!settings.enabled) {
    child.tally->count(ModuleCounter::kLeftOff);
    ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection, "left to Apache: Linger Off");
    return DECLINED;
  }

  // mod_http2 hooks in last and returns DONE, which ends the chain: a hook behind it never sees an
  // HTTP/2 connection, and a flush before it would lose its GOAWAY. So everybody else goes first,
  // and our DONE keeps the core from running them again.
  run_hooks_behind_ours(connection);
  if (would_block_listener(connection)) {
    child.tally->count_fallback(Obstacle::kBusy, monotonic_ns());
    return DONE;
  }
  if (!connection->aborted) flush(connection);
  part_with_client({connection, *ours, server, settings, socket_of(connection)});
  return DONE;
}

}  // namespace lingerd
