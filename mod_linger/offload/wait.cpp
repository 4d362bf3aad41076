// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/offload/wait.h"

#include <http_core.h>
#include <http_log.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "base/clock.h"
#include "mod_linger/child.h"
#include "mod_linger/connection.h"
#include "mod_linger/module.h"

namespace lingerd {
namespace {

bool client_has_gone(apr_status_t why) {
  return why == ECONNRESET || why == EPIPE;
}

}  // namespace

std::uint64_t timeout_ns_of(conn_rec* connection) {
  constexpr apr_interval_time_t kLongest = apr_time_from_sec(apr_interval_time_t{1} << 30);
  const apr_interval_time_t us =
      std::clamp<apr_interval_time_t>(server_of(connection)->timeout, 1'000, kLongest);
  return static_cast<std::uint64_t>(us) * 1'000;
}

apr_status_t mark_broken(conn_rec* connection, apr_status_t why) {
  if (why == ETIMEDOUT) why = APR_TIMEUP;
  connection->aborted = 1;
  if (!client_has_gone(why)) {
    constexpr linger kAtOnce{1, 0};
    setsockopt(socket_of(connection), SOL_SOCKET, SO_LINGER, &kAtOnce, sizeof kAtOnce);
  }
  ap_log_cerror(APLOG_MARK, APLOG_TRACE1, why, connection, "offload: the client is lost");
  return why != APR_SUCCESS ? why : APR_ECONNABORTED;
}

apr_status_t wait_writable(conn_rec* connection, int fd) {
  pollfd waiting{fd, POLLOUT, 0};
  const std::uint64_t timeout_ms = timeout_ns_of(connection) / 1'000'000;
  constexpr std::uint64_t kLongest = std::numeric_limits<int>::max();
  const int ready = poll(&waiting, 1, static_cast<int>(std::min(timeout_ms, kLongest)));
  if (ready == 0) return mark_broken(connection, APR_TIMEUP);
  return ready < 0 && errno != EINTR ? mark_broken(connection, errno) : APR_SUCCESS;
}

apr_status_t wait_until_left(conn_rec* connection, Rest& rest, std::uint64_t at_most_left) {
  while (rest.bytes.left() > at_most_left) {
    if (rest.send(monotonic_ns()) == RestBytes::Result::kBroken) {
      return mark_broken(connection, rest.error);
    }
    if (rest.bytes.left() <= at_most_left) break;
    const apr_status_t status = wait_writable(connection, rest.socket.get());
    if (status != APR_SUCCESS) return status;
  }
  return APR_SUCCESS;
}

}  // namespace lingerd
