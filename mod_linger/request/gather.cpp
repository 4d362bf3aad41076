// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/request/gather.h"

#include <httpd.h>  // before the others, which need it

#include <http_core.h>
#include <http_log.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include "base/clock.h"
#include "contract/record.h"
#include "mod_linger/connection.h"
#include "mod_linger/module.h"
#include "mod_linger/request/hope.h"
#include "mod_linger/request/missing.h"
#include "mod_linger/request/reader.h"
#include "mod_linger/request/request.h"
#include "mod_linger/request/times.h"
#include "mod_linger/settings.h"
#include "mod_linger/stay/departure.h"
#include "mod_linger/stay/permit.h"

namespace lingerd {
namespace {

// The kernel says when so many bytes are there, or the client has closed.
void wait_for(int fd, std::uint64_t at_least, std::uint32_t wait_ms) {
  const auto set = [fd](int bytes) {
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
  };
  const bool several = at_least > 1;
  if (several) {
    set(static_cast<int>(std::min<std::uint64_t>(at_least, std::numeric_limits<int>::max())));
  }
  pollfd waiting{fd, POLLIN | POLLRDHUP, 0};
  poll(&waiting, 1, static_cast<int>(wait_ms));
  if (several) set(1);
}

Hope& hope() {
  static Hope hope;
  return hope;
}

// Looks, and again when the rest has had its few milliseconds.
Missing look_patiently(int fd, const RequestLimits& limits, Unread& unread) {
  unread = look_at(fd);
  Missing missing = what_is_missing(unread.front, unread.there, limits);
  if (unread.is_over || !missing.part) return missing;
  const std::uint64_t since_ms = monotonic_ns() / 1'000'000;
  const std::uint64_t until_ms = since_ms + hope().worth_waiting(since_ms);
  for (std::uint64_t now_ms = since_ms; now_ms < until_ms && missing.part && !unread.is_over;
       now_ms = monotonic_ns() / 1'000'000) {
    const std::uint64_t before = unread.there;
    wait_for(fd, missing.at_least, static_cast<std::uint32_t>(until_ms - now_ms));
    unread = look_at(fd);
    missing = what_is_missing(unread.front, unread.there, limits);
    if (unread.there == before) break;
  }
  if (until_ms > since_ms && !missing.part) hope().came();
  if (until_ms > since_ms && missing.part) hope().waited_in_vain(monotonic_ns() / 1'000'000);
  return missing;
}

bool may_wait_for(const Request& request, const AwaitedPart& part) {
  using MayWait = Request::MayWait;
  return request.may_wait == MayWait::kForHead ||
         (request.may_wait == MayWait::kForBody && part.part != RequestPart::kHead);
}

bool goes(conn_rec* connection, const Settings& settings, const AwaitedPart& part,
          std::uint64_t since_ns) {
  if (has_stranger(connection, RecordKind::kRequest) ||
      !reaches_lingerd(connection, RecordKind::kRequest, since_ns, Otherwise::kWaits)) {
    return false;
  }
  Handoff handoff = handoff_with(settings, since_ns);
  handoff.kind = RecordKind::kRequest;
  handoff.stall_ms = timeout_ms_for(part.part, settings);
  handoff.keepalives = static_cast<std::uint32_t>(connection->keepalives);
  handoff.awaited = part;
  if (!departs(connection, handoff)) return false;
  ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection,
                "the rest of a request's %s is waited for in lingerd",
                part.part == RequestPart::kHead ? "head" : "body");
  return true;
}

}  // namespace

bool gathers(conn_rec* connection, Request& request) {
  const server_rec* server = server_of(connection);
  const Settings& settings = settings_of(server);
  const int fd = socket_of(connection);
  const std::uint64_t since_ns = monotonic_ns();
  const bool is_on = settings.enabled && settings.request && fd >= 0;
  Unread unread;
  Missing missing;
  if (is_on && request.may_wait != Request::MayWait::kNoMore) {
    missing = look_patiently(fd, limits_of(server), unread);
  } else {
    unread = look_at(fd);
    missing = what_is_missing(unread.front, unread.there, limits_of(server));
    missing.part.reset();
  }
  const bool waits = missing.part && !unread.is_over && may_wait_for(request, *missing.part);
  if (waits && goes(connection, settings, *missing.part, since_ns)) return true;
  if (missing.head > 0) (void)keep(connection, request, missing.head);
  return false;
}

}  // namespace lingerd
