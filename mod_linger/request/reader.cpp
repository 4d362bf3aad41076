// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/request/reader.h"

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>
#include <apr_network_io.h>
#include <apr_support.h>
#include <http_core.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <util_filter.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/errors.h"
#include "contract/request_head.h"
#include "mod_linger/connection.h"
#include "mod_linger/request/request.h"

namespace lingerd {
namespace {

constexpr std::size_t kFront = std::size_t{64} << 10;
// A line that is longer comes in parts, as from the core (HUGE_STRING_LEN).
constexpr std::size_t kLongestLine = 8'192;
constexpr apr_size_t kAtOnce = APR_BUCKET_BUFF_SIZE;

// Reads at most so many bytes as a bucket at the end of `to`. `bytes` is then how many came; 0 is
// the end.
apr_status_t take(conn_rec* connection, apr_bucket_brigade* to, apr_size_t& bytes,
                  apr_read_type_e block) {
  apr_socket_t* socket = ap_get_conn_socket(connection);
  auto* buffer = static_cast<char*>(apr_bucket_alloc(bytes, connection->bucket_alloc));
  apr_interval_time_t timeout = 0;
  if (block == APR_NONBLOCK_READ) {
    apr_socket_timeout_get(socket, &timeout);
    apr_socket_timeout_set(socket, 0);
  }
  const apr_status_t status = apr_socket_recv(socket, buffer, &bytes);
  if (block == APR_NONBLOCK_READ) apr_socket_timeout_set(socket, timeout);
  if (status != APR_SUCCESS || bytes == 0) {
    apr_bucket_free(buffer);
    bytes = 0;
    return APR_STATUS_IS_EOF(status) ? APR_SUCCESS : status;
  }
  APR_BRIGADE_INSERT_TAIL(
      to, apr_bucket_heap_create(buffer, bytes, apr_bucket_free, connection->bucket_alloc));
  return APR_SUCCESS;
}

apr_status_t wait_if(apr_read_type_e block, conn_rec* connection) {
  return block == APR_NONBLOCK_READ ? APR_EAGAIN : wait_for_more(connection);
}

// The core says "nothing yet" with an empty brigade.
apr_status_t nothing_yet(apr_status_t status) {
  return APR_STATUS_IS_EAGAIN(status) ? APR_SUCCESS : status;
}

// What is left of the line that begins with the next byte, as far as it is there.
apr_status_t read_line(conn_rec* connection, Request& request, apr_bucket_brigade* brigade,
                       apr_read_type_e block) {
  if (!APR_BRIGADE_EMPTY(request.kept)) {
    return apr_brigade_split_line(brigade, request.kept, APR_BLOCK_READ, kLongestLine);
  }
  for (std::size_t length = 0; length < kLongestLine;) {
    const Unread unread = look_at(socket_of(connection));
    if (unread.is_over) return length > 0 ? APR_SUCCESS : APR_EOF;
    if (unread.front.empty()) {
      const apr_status_t status = wait_if(block, connection);
      if (status != APR_SUCCESS)
        return length > 0 && block == APR_NONBLOCK_READ ? APR_SUCCESS : nothing_yet(status);
      continue;
    }
    const std::string_view front = unread.front.substr(0, kLongestLine);
    const std::size_t end = front.find('\n');
    apr_size_t bytes = end == front.npos ? front.size() : end + 1;
    const apr_status_t status = take(connection, brigade, bytes, APR_BLOCK_READ);
    if (status != APR_SUCCESS || end != front.npos) return status;
    length += bytes;
  }
  return APR_SUCCESS;
}

// Moves at most so many kept ones.
apr_status_t give_kept(Request& request, apr_bucket_brigade* brigade, apr_off_t bytes) {
  apr_bucket* end = nullptr;
  const apr_status_t status = apr_brigade_partition(request.kept, bytes, &end);
  if (status != APR_SUCCESS && status != APR_INCOMPLETE) return status;
  while (APR_BRIGADE_FIRST(request.kept) != end &&
         APR_BRIGADE_FIRST(request.kept) != APR_BRIGADE_SENTINEL(request.kept)) {
    apr_bucket* bucket = APR_BRIGADE_FIRST(request.kept);
    APR_BUCKET_REMOVE(bucket);
    APR_BRIGADE_INSERT_TAIL(brigade, bucket);
  }
  return APR_SUCCESS;
}

apr_status_t read_bytes(conn_rec* connection, Request& request, apr_bucket_brigade* brigade,
                        apr_read_type_e block, apr_off_t bytes) {
  if (!APR_BRIGADE_EMPTY(request.kept)) return give_kept(request, brigade, bytes);
  auto some = static_cast<apr_size_t>(std::min<apr_off_t>(bytes, kAtOnce));
  const apr_status_t status = take(connection, brigade, some, block);
  if (status != APR_SUCCESS) {
    return block == APR_NONBLOCK_READ ? nothing_yet(status) : status;
  }
  if (some > 0) return APR_SUCCESS;
  if (block == APR_NONBLOCK_READ) return APR_EOF;
  APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_eos_create(connection->bucket_alloc));
  return APR_SUCCESS;
}

// A copy. The beginning of a request without its end isn't there yet for one that doesn't want to
// wait: httpd asks so between two requests, and keeps back the response to the first if there is
// another one to answer.
apr_status_t show(conn_rec* connection, Request& request, apr_bucket_brigade* brigade,
                  apr_read_type_e block, apr_off_t bytes) {
  std::array<char, kLongestLine> kept;
  apr_size_t size = std::min<apr_size_t>(static_cast<apr_size_t>(bytes), kept.size());
  std::string_view front;
  if (!APR_BRIGADE_EMPTY(request.kept)) {
    const apr_status_t status = apr_brigade_flatten(request.kept, kept.data(), &size);
    if (status != APR_SUCCESS) return status;
    front = {kept.data(), size};
  }
  while (front.empty()) {
    const Unread unread = look_at(socket_of(connection));
    if (unread.is_over) return APR_EOF;
    front = unread.front;
    if (block == APR_NONBLOCK_READ && !request.timed_out &&
        scan_head(front).state == HeadScan::State::kIncomplete) {
      return APR_SUCCESS;
    }
    if (!front.empty()) break;
    const apr_status_t status = wait_if(block, connection);
    if (status != APR_SUCCESS) return nothing_yet(status);
  }
  front = front.substr(0, static_cast<std::size_t>(bytes));
  APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_heap_create(front.data(), front.size(), nullptr,
                                                          connection->bucket_alloc));
  return APR_SUCCESS;
}

}  // namespace

Unread look_at(int fd) {
  static thread_local std::array<char, kFront> buffer;
  Unread unread;
  const ssize_t n = recv(fd, buffer.data(), buffer.size(), MSG_PEEK | MSG_DONTWAIT);
  if (n <= 0) {
    unread.is_over = n == 0 || !is_transient(errno);
    return unread;
  }
  unread.front = {buffer.data(), static_cast<std::size_t>(n)};
  unread.there = unread.front.size();
  int all = 0;
  if (unread.there == buffer.size() && ioctl(fd, SIOCINQ, &all) == 0 && all > 0) {
    unread.there = std::max(unread.there, static_cast<std::uint64_t>(all));
  }
  return unread;
}

apr_status_t wait_for_more(conn_rec* connection) {
  return apr_wait_for_io_or_timeout(nullptr, ap_get_conn_socket(connection), 1);
}

apr_status_t keep(conn_rec* connection, Request& request, std::size_t bytes) {
  while (bytes > 0) {
    apr_size_t some = bytes;
    const apr_status_t status = take(connection, request.kept, some, APR_BLOCK_READ);
    if (status != APR_SUCCESS || some == 0) return status;
    bytes -= some;
  }
  return APR_SUCCESS;
}

apr_status_t read_from_socket(ap_filter_t* filter, Request& request, apr_bucket_brigade* brigade,
                              ap_input_mode_t mode, apr_read_type_e block, apr_off_t bytes) {
  conn_rec* connection = filter->c;
  switch (mode) {
    case AP_MODE_INIT: return APR_SUCCESS;
    case AP_MODE_GETLINE: return read_line(connection, request, brigade, block);
    case AP_MODE_READBYTES:
      if (bytes > 0) return read_bytes(connection, request, brigade, block, bytes);
      break;
    case AP_MODE_SPECULATIVE:
      if (bytes > 0) return show(connection, request, brigade, block, bytes);
      break;
    default: break;
  }
  // What nobody asks of a connection that waits for requests: the core's from here on.
  if (!APR_BRIGADE_EMPTY(request.kept)) {
    APR_BRIGADE_CONCAT(brigade, request.kept);
    return APR_SUCCESS;
  }
  request.is_cores = true;
  return ap_get_brigade(filter->next, brigade, mode, block, bytes);
}

}  // namespace lingerd
