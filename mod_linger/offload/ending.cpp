// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/offload/ending.h"

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>
#include <http_log.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <mutex>
#include <utility>

#include "base/clock.h"
#include "contract/record.h"
#include "mod_linger/child.h"
#include "mod_linger/closing.h"
#include "mod_linger/connection.h"
#include "mod_linger/link/client.h"
#include "mod_linger/link/obstacle.h"
#include "mod_linger/module.h"
#include "mod_linger/offload/offload.h"
#include "mod_linger/offload/rest.h"
#include "mod_linger/offload/rest_bytes.h"
#include "mod_linger/offload/sender.h"
#include "mod_linger/offload/wait.h"
#include "mod_linger/settings.h"

namespace lingerd {
namespace {

std::uint32_t stall_ms_for(const Closing& closing) {
  if (closing.settings.offload_stall_ms != 0) return closing.settings.offload_stall_ms;
  return static_cast<std::uint32_t>(
      std::clamp<apr_int64_t>(apr_time_as_msec(closing.server->timeout), 1, kMaxDurationMs));
}

Client::Result offer(Rest& rest, Handoff handoff) {
  RestBytes& bytes = rest.bytes;
  if (!bytes.seal()) return {Obstacle::kRefused, errno, false};
  const Child& child = this_child();
  handoff.content_offset = bytes.offset();
  handoff.content_length = bytes.left();
  return child.client->deliver(rest.socket.get(), bytes.descriptor(), handoff, monotonic_ns(),
                               child.tally->times_up());
}

// The socket goes with the rest of the response, and lingerd sends the FIN behind it. False: what
// is left by now has to be sent here, and then the socket goes the usual way.
bool deliver(const Closing& closing, Rest& rest) {
  RestBytes& bytes = rest.bytes;
  const std::uint64_t now_ns = monotonic_ns();
  if (rest.send(now_ns) != RestBytes::Result::kWouldBlock) return false;
  Handoff handoff = linger_of(closing, now_ns);
  handoff.stall_ms = stall_ms_for(closing);
  Client::Result result = offer(rest, handoff);
  // A file of another kind of file system, or one that a policy (SELinux) keeps from lingerd.
  if (result.obstacle == Obstacle::kRefused && result.error == EBADF && bytes.is_file() &&
      bytes.left() <= closing.settings.offload_max &&
      bytes.read_file() == RestBytes::Result::kDone) {
    result = offer(rest, handoff);
  }
  if (result.obstacle != Obstacle::kNone) {
    ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, closing.connection, "the rest is left to Apache: %s",
                  words_of(result.obstacle).brief);
    if (result.fresh) announce(result.obstacle, result.error, now_ns);
    return false;
  }
  (void)note_handed_off(closing.connection, now_ns);
  ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, closing.connection,
                "handed off to lingerd with %" APR_UINT64_T_FMT " bytes to deliver",
                static_cast<apr_uint64_t>(bytes.left()));
  return true;
}

// What the sender has left is the worker's.
void take_back_rest(conn_rec* connection, Offload& offload) {
  offload.request = nullptr;
  if (!offload.rest) return;
  if (!offload.rest->is_ours()) {  // forked while a response was under way: it is the parent's
    connection->aborted = 1;
    return;
  }
  take_from_sender(offload.rest);
  const std::scoped_lock lock(offload.rest->mutex);
  if (offload.rest->error != 0 && !connection->aborted) {
    mark_broken(connection, offload.rest->error);
  }
}

// False, and the connection is marked as broken: the client is lost.
bool send_rest_here(conn_rec* connection, Rest& rest) {
  if (rest.bytes.empty()) return true;
  // Without a scoreboard handle this is the listener thread of an older event, which must not wait.
  if (connection->sbh == nullptr) {
    connection->aborted = 1;
    return false;
  }
  return wait_until_left(connection, rest, 0) == APR_SUCCESS;
}

}  // namespace

RestIs part_with_rest(Closing& closing) {
  conn_rec* connection = closing.connection;
  if (closing.ours.offload == nullptr) return RestIs::kNone;
  Offload& offload = *closing.ours.offload;
  take_back_rest(connection, offload);
  if (connection->aborted || closing.fd < 0) return RestIs::kLost;
  if (!offload.has_rest()) return RestIs::kNone;
  if (deliver(closing, *offload.rest)) {
    offload.state = OffloadState::kGiven;
    return RestIs::kGiven;
  }
  if (offload.rest->error != 0) mark_broken(connection, offload.rest->error);
  if (connection->aborted || !send_rest_here(connection, *offload.rest)) return RestIs::kLost;
  return RestIs::kNone;
}

// What ends Apache's linger also says that the client is lost: not to this request's log.
void end_request(Closing& closing, bool lost) {
  if (closing.ours.offload == nullptr) return;
  conn_rec* connection = closing.connection;
  Offload& offload = *closing.ours.offload;
  if (offload.kept != nullptr) {
    const auto aborted = std::exchange(connection->aborted, lost ? 1U : 0U);
    apr_brigade_cleanup(offload.kept);
    connection->aborted = aborted;
  }
  offload.rest.reset();
  // What Apache still writes, of an empty connection, is the core filter's again.
  if (offload.state != OffloadState::kGiven) offload.state = OffloadState::kForbidden;
}

}  // namespace lingerd
