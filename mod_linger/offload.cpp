// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/offload.h"

#include <apr_buckets.h>
#include <apr_optional.h>
#include <apr_portable.h>
#include <apr_strings.h>
#include <http_connection.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <poll.h>
#include <sys/socket.h>
#include <util_filter.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "mod_linger/child.h"
#include "mod_linger/connection.h"
#include "mod_linger/module.h"
#include "mod_linger/settings.h"

namespace lingerd {
namespace {

constexpr char kFilter[] = "LINGER_OFFLOAD";
constexpr char kCloseFilter[] = "LINGER_OFFLOAD_CLOSE";
constexpr std::size_t kMostPieces = 64;

bool offload_anywhere = false;  // in this configuration; set before any child starts

using Result = Backlog::Result;

int socket_of(conn_rec* connection) {
  apr_os_sock_t fd = -1;
  apr_socket_t* socket = ap_get_conn_socket(connection);
  if (socket != nullptr) apr_os_sock_get(&fd, socket);
  return fd;
}

// mod_logio's %O counts what this filter has taken, as it does for the core's own.
void count_out(conn_rec* connection, std::uint64_t bytes) {
  static const auto add = APR_RETRIEVE_OPTIONAL_FN(ap_logio_add_bytes_out);
  if (add != nullptr) add(connection, static_cast<apr_off_t>(bytes));
}

apr_status_t broken(conn_rec* connection, apr_status_t why) {
  connection->aborted = 1;
  ap_log_cerror(APLOG_MARK, APLOG_TRACE1, why, connection, "offload: the client is lost");
  return why != APR_SUCCESS ? why : APR_ECONNABORTED;
}

// As httpd does: for as long as the socket's timeout says.
apr_status_t wait_writable(conn_rec* connection, int fd) {
  apr_interval_time_t timeout = 0;
  apr_socket_timeout_get(ap_get_conn_socket(connection), &timeout);
  pollfd waiting{fd, POLLOUT, 0};
  const int ready =
      poll(&waiting, 1, timeout < 0 ? -1 : static_cast<int>(apr_time_as_msec(timeout)));
  if (ready == 0) return broken(connection, APR_TIMEUP);
  return ready < 0 && errno != EINTR ? broken(connection, errno) : APR_SUCCESS;
}

// The worker waits, as it would without offload, until no more than that is left.
apr_status_t wait_until(conn_rec* connection, Backlog& backlog, int fd,
                        std::uint64_t at_most_left) {
  while (backlog.left() > at_most_left) {
    if (backlog.send(fd) == Result::kBroken) return broken(connection, errno);
    if (backlog.left() <= at_most_left) break;
    if (const apr_status_t status = wait_writable(connection, fd); status != APR_SUCCESS) {
      return status;
    }
  }
  return APR_SUCCESS;
}

// One brigade on its way to the socket.
class Writer {
 public:
  Writer(conn_rec* connection, Offload& offload, std::uint64_t most)
      : connection_(connection), offload_(offload), most_(most), fd_(socket_of(connection)) {}

  apr_status_t write(apr_bucket_brigade* brigade);

 private:
  // APR_SUCCESS, or why the connection is over.
  apr_status_t take(apr_bucket* bucket);
  apr_status_t write_file(apr_bucket* bucket);
  apr_status_t write_pieces(bool more);
  apr_status_t keep(std::span<iovec> pieces);
  apr_status_t make_room(std::uint64_t bytes);
  apr_status_t send_waiting(iovec part);
  void drop_taken(apr_bucket_brigade* brigade, const apr_bucket* until);

  conn_rec* connection_;
  Offload& offload_;
  std::uint64_t most_;
  int fd_;
  std::array<iovec, kMostPieces> pieces_{};
  std::size_t count_ = 0;
};

// Buckets live until what they hold is written: pieces_ points into them.
void Writer::drop_taken(apr_bucket_brigade* brigade, const apr_bucket* until) {
  while (APR_BRIGADE_FIRST(brigade) != until) apr_bucket_delete(APR_BRIGADE_FIRST(brigade));
}

apr_status_t Writer::write(apr_bucket_brigade* brigade) {
  if (!offload_.backlog.empty() && offload_.backlog.send(fd_) == Result::kBroken) {
    return broken(connection_, errno);
  }
  apr_bucket* bucket = APR_BRIGADE_FIRST(brigade);
  while (bucket != APR_BRIGADE_SENTINEL(brigade)) {
    apr_status_t status = APR_SUCCESS;
    const bool is_file = APR_BUCKET_IS_FILE(bucket);
    if (APR_BUCKET_IS_METADATA(bucket) || is_file || count_ == kMostPieces) {
      // An EOR bucket frees the request, and logs it: not before its bytes are on their way.
      status = write_pieces(is_file);
      if (status != APR_SUCCESS) return status;
      drop_taken(brigade, bucket);
    }
    if (is_file) {
      status = write_file(bucket);
    } else if (!APR_BUCKET_IS_METADATA(bucket)) {
      status = take(bucket);
    }
    if (status != APR_SUCCESS) return status;
    bucket = APR_BUCKET_NEXT(bucket);
  }
  const apr_status_t status = write_pieces(false);
  if (status == APR_SUCCESS) drop_taken(brigade, APR_BRIGADE_SENTINEL(brigade));
  return status;
}

apr_status_t Writer::take(apr_bucket* bucket) {
  const char* data = nullptr;
  apr_size_t length = 0;
  // What has been gathered must not wait behind a pipe whose writer takes its time.
  apr_status_t status = apr_bucket_read(bucket, &data, &length, APR_NONBLOCK_READ);
  if (APR_STATUS_IS_EAGAIN(status)) {
    status = write_pieces(false);
    if (status != APR_SUCCESS) return status;
    status = apr_bucket_read(bucket, &data, &length, APR_BLOCK_READ);
  }
  if (status != APR_SUCCESS) return status;
  if (length > 0) pieces_[count_++] = {const_cast<char*>(data), length};
  return APR_SUCCESS;
}

apr_status_t Writer::write_pieces(bool more) {
  std::span<iovec> rest(pieces_.data(), count_);
  count_ = 0;
  if (rest.empty()) return APR_SUCCESS;
  std::uint64_t length = 0;
  for (const iovec& piece : rest) length += piece.iov_len;
  count_out(connection_, length);
  while (!rest.empty() && offload_.backlog.empty()) {
    msghdr message{};
    message.msg_iov = rest.data();
    message.msg_iovlen = rest.size();
    ssize_t n = sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL | (more ? int{MSG_MORE} : 0));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) return broken(connection_, errno);
    while (n > 0) {
      iovec& first = rest.front();
      const auto taken = std::min(static_cast<std::size_t>(n), first.iov_len);
      first.iov_base = static_cast<char*>(first.iov_base) + taken;
      first.iov_len -= taken;
      n -= static_cast<ssize_t>(taken);
      if (first.iov_len == 0) rest = rest.subspan(1);
    }
  }
  return rest.empty() ? APR_SUCCESS : keep(rest);
}

// Into the backlog, in pieces that fit.
apr_status_t Writer::keep(std::span<iovec> pieces) {
  if (offload_.backlog.is_file()) {
    if (const apr_status_t status = wait_until(connection_, offload_.backlog, fd_, 0);
        status != APR_SUCCESS)
      return status;
  }
  for (iovec& piece : pieces) {
    while (piece.iov_len > 0) {
      if (const apr_status_t status = make_room(1); status != APR_SUCCESS) return status;
      const std::uint64_t room = most_ - offload_.backlog.left();
      iovec part{piece.iov_base, std::min<std::size_t>(piece.iov_len, room)};
      if (offload_.backlog.append(std::span(&part, 1)) != Result::kDone) {
        // No memory for it: the worker waits, as it would without offload.
        const apr_status_t status = send_waiting(part);
        if (status != APR_SUCCESS) return status;
      }
      piece.iov_base = static_cast<char*>(piece.iov_base) + part.iov_len;
      piece.iov_len -= part.iov_len;
    }
  }
  return APR_SUCCESS;
}

apr_status_t Writer::send_waiting(iovec part) {
  if (const apr_status_t status = wait_until(connection_, offload_.backlog, fd_, 0);
      status != APR_SUCCESS) {
    return status;
  }
  while (part.iov_len > 0) {
    const ssize_t n = ::send(fd_, part.iov_base, part.iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) {
      part.iov_base = static_cast<char*>(part.iov_base) + n;
      part.iov_len -= static_cast<std::size_t>(n);
    } else if (errno == EAGAIN) {
      if (const apr_status_t status = wait_writable(connection_, fd_); status != APR_SUCCESS) {
        return status;
      }
    } else if (errno != EINTR) {
      return broken(connection_, errno);
    }
  }
  return APR_SUCCESS;
}

apr_status_t Writer::write_file(apr_bucket* bucket) {
  auto* content = static_cast<apr_bucket_file*>(bucket->data);
  apr_os_file_t file = -1;
  apr_os_file_get(&file, content->fd);
  if (!offload_.backlog.empty()) {
    // Bytes, and then a file: the file's come behind them only when those are out.
    if (const apr_status_t status = wait_until(connection_, offload_.backlog, fd_, 0);
        status != APR_SUCCESS)
      return status;
  }
  count_out(connection_, bucket->length);
  const auto offset = static_cast<std::uint64_t>(bucket->start);
  if (offload_.backlog.hold_file(file, offset, bucket->length) != Result::kDone) {
    return broken(connection_, errno);
  }
  return offload_.backlog.send(fd_) == Result::kBroken ? broken(connection_, errno) : APR_SUCCESS;
}

apr_status_t Writer::make_room(std::uint64_t bytes) {
  if (offload_.backlog.left() + bytes <= most_) return APR_SUCCESS;
  return wait_until(connection_, offload_.backlog, fd_, most_ - std::min(most_, bytes));
}

bool is_http1(conn_rec* connection) {
  return std::strcmp(ap_get_protocol(connection), AP_PROTOCOL_HTTP1) == 0;
}

const Settings& settings_for(conn_rec* connection, const Connection& ours) {
  const server_rec* last = ours.server.load(std::memory_order_relaxed);
  return settings_of(last != nullptr ? last : connection->base_server);
}

bool holds_data(apr_bucket_brigade* brigade) {
  for (apr_bucket* b = APR_BRIGADE_FIRST(brigade); b != APR_BRIGADE_SENTINEL(brigade);
       b = APR_BUCKET_NEXT(b)) {
    if (!APR_BUCKET_IS_METADATA(b)) return true;
  }
  return false;
}

// The last response of a connection that lingerd will be offered.
bool may_go_direct(conn_rec* connection, const Connection& ours, apr_bucket_brigade* brigade) {
  if (!ours.offload.allowed || connection->keepalive != AP_CONN_CLOSE || connection->aborted) {
    return false;
  }
  const Settings& settings = settings_for(connection, ours);
  return settings.enabled && settings.offload && holds_data(brigade) && is_http1(connection) &&
         this_child().client != nullptr && this_child().client->delivers();
}

apr_status_t offload_filter(ap_filter_t* filter, apr_bucket_brigade* brigade) {
  conn_rec* connection = filter->c;
  Connection* ours = connection_of(connection);
  if (ours == nullptr) return ap_pass_brigade(filter->next, brigade);
  Offload& offload = ours->offload;
  if (!offload.direct) {
    if (!may_go_direct(connection, *ours, brigade)) return ap_pass_brigade(filter->next, brigade);
    // What the core's filter still holds, of an earlier response, goes first.
    apr_bucket_brigade* flush = apr_brigade_create(connection->pool, connection->bucket_alloc);
    APR_BRIGADE_INSERT_TAIL(flush, apr_bucket_flush_create(connection->bucket_alloc));
    const apr_status_t status = ap_pass_brigade(filter->next, flush);
    apr_brigade_destroy(flush);
    if (status != APR_SUCCESS || connection->aborted) {
      apr_brigade_cleanup(brigade);
      return status != APR_SUCCESS ? status : APR_ECONNABORTED;
    }
    offload.direct = true;
  }
  apr_status_t status = APR_ECONNABORTED;
  if (!connection->aborted) {
    const Settings& settings = settings_for(connection, *ours);
    status = Writer(connection, offload, settings.offload_max).write(brigade);
  }
  apr_brigade_cleanup(brigade);
  return status;
}

// LingerOffloadClose: a response known to be larger is the connection's last, so that it can
// travel.
apr_status_t offload_close_filter(ap_filter_t* filter, apr_bucket_brigade* brigade) {
  request_rec* request = filter->r;
  const Settings& settings = settings_of(request->server);
  apr_off_t length = request->clength;
  if (const char* given = apr_table_get(request->headers_out, "Content-Length")) {
    char* end = nullptr;
    if (apr_strtoff(&length, given, &end, 10) != APR_SUCCESS) length = 0;
  }
  if (length > static_cast<apr_off_t>(settings.offload_close) && may_offload(request)) {
    apr_table_setn(request->headers_out, "Connection", "close");
  }
  ap_remove_output_filter(filter);
  return ap_pass_brigade(filter->next, brigade);
}

}  // namespace

void register_offload_filters() {
  ap_register_output_filter(kFilter, offload_filter, nullptr,
                            static_cast<ap_filter_type>(AP_FTYPE_NETWORK - 1));
  ap_register_output_filter(kCloseFilter, offload_close_filter, nullptr,
                            static_cast<ap_filter_type>(AP_FTYPE_PROTOCOL - 1));
}

void look_for_offload(const server_rec* servers) {
  offload_anywhere = false;
  for (const server_rec* server = servers; server != nullptr; server = server->next) {
    if (settings_of(server).offload) offload_anywhere = true;
  }
}

bool add_offload_filter(conn_rec* connection) {
  return offload_anywhere && ap_add_output_filter(kFilter, nullptr, nullptr, connection) != nullptr;
}

void add_offload_close_filter(request_rec* request) {
  const Settings& settings = settings_of(request->server);
  if (request->connection->master == nullptr && settings.enabled && settings.offload &&
      settings.offload_close > 0) {
    ap_add_output_filter(kCloseFilter, nullptr, request, request->connection);
  }
}

bool may_offload(const request_rec* request) {
  return request->connection->master == nullptr && request->method_number != M_CONNECT &&
         request->proto_num >= HTTP_VERSION(1, 0) &&
         apr_table_get(request->headers_in, "Upgrade") == nullptr;
}

bool send_backlog_here(conn_rec* connection, Offload& offload) {
  return wait_until(connection, offload.backlog, socket_of(connection), 0) == APR_SUCCESS;
}

}  // namespace lingerd
