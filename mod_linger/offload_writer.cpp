// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/offload_writer.h"

#include <apr_optional.h>
#include <apr_portable.h>
#include <http_connection.h>
#include <http_core.h>
#include <http_log.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <util_filter.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "mod_linger/child.h"
#include "mod_linger/connection.h"
#include "mod_linger/module.h"

namespace lingerd {
namespace {

using Result = Backlog::Result;

// mod_logio's %O counts what this filter has taken, as it counts what the core's has.
void count_out(conn_rec* connection, std::uint64_t bytes) {
  static const auto add = APR_RETRIEVE_OPTIONAL_FN(ap_logio_add_bytes_out);
  if (add != nullptr && bytes > 0) add(connection, static_cast<apr_off_t>(bytes));
}

apr_status_t mark_broken(conn_rec* connection, apr_status_t why) {
  connection->aborted = 1;
  ap_log_cerror(APLOG_MARK, APLOG_TRACE1, why, connection, "offload: the client is lost");
  return why != APR_SUCCESS ? why : APR_ECONNABORTED;
}

// The server's Timeout, as httpd's own writes have it. Not the socket's: at a connection's end
// event has set that to the 2 seconds of its lingering close.
apr_status_t wait_writable(conn_rec* connection, int fd) {
  pollfd waiting{fd, POLLOUT, 0};
  const apr_int64_t timeout_ms = apr_time_as_msec(server_of(connection)->timeout);
  const int ready = poll(
      &waiting, 1,
      static_cast<int>(std::clamp<apr_int64_t>(timeout_ms, 1, std::numeric_limits<int>::max())));
  if (ready == 0) return mark_broken(connection, APR_TIMEUP);
  return ready < 0 && errno != EINTR ? mark_broken(connection, errno) : APR_SUCCESS;
}

bool is_writable(int fd) {
  pollfd now{fd, POLLOUT, 0};
  return poll(&now, 1, 0) > 0;
}

std::uint64_t length_of(std::span<const iovec> pieces) {
  std::uint64_t length = 0;
  for (const iovec& piece : pieces) length += piece.iov_len;
  return length;
}

void skip(std::span<iovec>& pieces, std::size_t bytes) {
  while (bytes > 0) {
    iovec& first = pieces.front();
    const std::size_t taken = std::min(bytes, first.iov_len);
    first.iov_base = static_cast<char*>(first.iov_base) + taken;
    first.iov_len -= taken;
    bytes -= taken;
    if (first.iov_len == 0) pieces = pieces.subspan(1);
  }
}

}  // namespace

apr_status_t wait_until_left(conn_rec* connection, Backlog& backlog, std::uint64_t at_most_left) {
  const int fd = socket_of(connection);
  while (backlog.left() > at_most_left) {
    if (backlog.send(fd) == Result::kBroken) return mark_broken(connection, errno);
    if (backlog.left() <= at_most_left) break;
    if (const apr_status_t status = wait_writable(connection, fd); status != APR_SUCCESS) {
      return status;
    }
  }
  return APR_SUCCESS;
}

OffloadWriter::OffloadWriter(conn_rec* connection, Backlog& backlog, std::uint64_t most,
                             bool& segment_open)
    : connection_(connection),
      backlog_(backlog),
      most_(most),
      segment_open_(segment_open),
      fd_(socket_of(connection)) {}

apr_status_t OffloadWriter::broken(apr_status_t why) const {
  return mark_broken(connection_, why);
}

apr_status_t OffloadWriter::write(apr_bucket_brigade* brigade) {
  brigade_ = brigade;
  // Asked first: the backlog would else be read at each of many small writes, for nothing.
  if (!backlog_.empty() && is_writable(fd_) && backlog_.send(fd_) == Result::kBroken) {
    return broken(errno);
  }
  apr_bucket* bucket = APR_BRIGADE_FIRST(brigade);
  while (bucket != APR_BRIGADE_SENTINEL(brigade)) {
    apr_status_t status = APR_SUCCESS;
    const bool is_data = !APR_BUCKET_IS_METADATA(bucket) && !APR_BUCKET_IS_FILE(bucket);
    if (!is_data || count_ == kMostPieces) {
      // An EOR bucket frees the request, and logs it: not before its bytes are on their way.
      status = write_pieces(bucket, !APR_BUCKET_IS_FLUSH(bucket));
    }
    if (status == APR_SUCCESS && !handed_back_) status = write_bucket(bucket);
    if (status != APR_SUCCESS || handed_back_) return status;
    if (is_data || count_ > 0) {  // pieces_ points into it
      bucket = APR_BUCKET_NEXT(bucket);
    } else {
      drop_until(APR_BUCKET_NEXT(bucket));
      bucket = APR_BRIGADE_FIRST(brigade);
    }
  }
  return write_pieces(APR_BRIGADE_SENTINEL(brigade), true);
}

apr_status_t OffloadWriter::write_bucket(apr_bucket* bucket) {
  if (APR_BUCKET_IS_METADATA(bucket)) {
    if (APR_BUCKET_IS_FLUSH(bucket)) end_segment();
    return APR_SUCCESS;
  }
  bool done = false;
  if (APR_BUCKET_IS_FILE(bucket)) {
    const apr_status_t status = write_file(bucket, done);
    if (status != APR_SUCCESS) return status;
  }
  return done || handed_back_ ? APR_SUCCESS : take(bucket);
}

void OffloadWriter::drop_until(const apr_bucket* until) {
  while (APR_BRIGADE_FIRST(brigade_) != until) apr_bucket_delete(APR_BRIGADE_FIRST(brigade_));
}

// What MSG_MORE made the kernel hold back, for at most 200 ms, goes now: setting TCP_NODELAY (which
// httpd has set already) says so.
void OffloadWriter::end_segment() {
  if (!segment_open_) return;
  constexpr int kOn = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &kOn, sizeof kOn);
  segment_open_ = false;
}

apr_status_t OffloadWriter::take(apr_bucket* bucket) {
  const char* data = nullptr;
  apr_size_t length = 0;
  // What has been gathered must not wait behind a pipe whose writer takes its time.
  apr_status_t status = apr_bucket_read(bucket, &data, &length, APR_NONBLOCK_READ);
  if (APR_STATUS_IS_EAGAIN(status)) {
    status = write_pieces(bucket, false);
    if (status != APR_SUCCESS || handed_back_) return status;
    end_segment();
    status = apr_bucket_read(bucket, &data, &length, APR_BLOCK_READ);
  }
  // Half a response must not look like a whole one.
  if (status != APR_SUCCESS) return broken(status);
  if (length > 0) pieces_[count_++] = {const_cast<char*>(data), length};
  return APR_SUCCESS;
}

// Writes what has been gathered, and drops the buckets that it was in, up to `until`.
apr_status_t OffloadWriter::write_pieces(apr_bucket* until, bool more) {
  std::span<iovec> rest(pieces_.data(), count_);
  count_ = 0;
  std::uint64_t sent = 0;
  if (!rest.empty() && backlog_.empty()) {
    const apr_status_t status = send_pieces(rest, more, sent);
    count_out(connection_, sent);
    if (status != APR_SUCCESS) return status;
    if (!rest.empty() && !lingerd_has_room(length_of(rest))) return hand_back(sent);
  }
  if (!rest.empty()) {
    count_out(connection_, length_of(rest));
    if (const apr_status_t status = keep(rest); status != APR_SUCCESS) return status;
  }
  drop_until(until);
  return APR_SUCCESS;
}

apr_status_t OffloadWriter::send_pieces(std::span<iovec>& rest, bool more, std::uint64_t& sent) {
  while (!rest.empty()) {
    msghdr message{};
    message.msg_iov = rest.data();
    message.msg_iovlen = rest.size();
    const ssize_t n =
        sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL | (more ? int{MSG_MORE} : 0));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) return broken(errno);
    segment_open_ = more;
    sent += static_cast<std::uint64_t>(n);
    skip(rest, static_cast<std::size_t>(n));
  }
  return APR_SUCCESS;
}

// The brigade begins with the buckets that were gathered: what of them has been sent is dropped,
// the rest is the core filter's.
apr_status_t OffloadWriter::hand_back(std::uint64_t sent) {
  handed_back_ = true;
  while (sent > 0) {
    apr_bucket* first = APR_BRIGADE_FIRST(brigade_);
    if (sent < first->length) {
      const apr_status_t status = apr_bucket_split(first, sent);
      if (status != APR_SUCCESS) return broken(status);
    }
    sent -= first->length;
    apr_bucket_delete(first);
  }
  return APR_SUCCESS;
}

// Into the backlog, in pieces that fit.
apr_status_t OffloadWriter::keep(std::span<iovec> pieces) {
  apr_status_t status = APR_SUCCESS;
  if (backlog_.is_file()) status = keep_behind_file();
  while (status == APR_SUCCESS && !pieces.empty()) {
    status = wait_until_left(connection_, backlog_, most_ - 1);
    if (status != APR_SUCCESS) break;
    const iovec part{pieces.front().iov_base,
                     std::min<std::size_t>(pieces.front().iov_len, most_ - backlog_.left())};
    // No memory for it: the worker waits, as it would without offload.
    if (backlog_.append(part) != Result::kDone) status = send_waiting(part);
    skip(pieces, part.iov_len);
  }
  return status;
}

// Bytes behind a file's rest (of an SSI page, of several ranges): it becomes bytes too, or is too
// large, and has to be out first.
apr_status_t OffloadWriter::keep_behind_file() {
  Result result = Result::kNoRoom;
  if (backlog_.left() < most_ && lingerd_has_room(backlog_.left())) result = backlog_.read_file();
  if (result == Result::kBroken) return broken(errno);
  return result == Result::kDone ? APR_SUCCESS : wait_until_left(connection_, backlog_, 0);
}

apr_status_t OffloadWriter::send_waiting(iovec part) {
  apr_status_t status = wait_until_left(connection_, backlog_, 0);
  std::span<iovec> rest(&part, 1);
  while (status == APR_SUCCESS) {
    std::uint64_t sent = 0;
    status = send_pieces(rest, false, sent);
    if (status != APR_SUCCESS || rest.empty()) break;
    status = wait_writable(connection_, fd_);
  }
  return status;
}

// `done` stays false for a file that can't travel: its bytes can.
apr_status_t OffloadWriter::write_file(apr_bucket* bucket, bool& done) {
  auto* content = static_cast<apr_bucket_file*>(bucket->data);
  apr_os_file_t file = -1;
  apr_os_file_get(&file, content->fd);
  // EnableSendfile Off (the default) is for file systems that sendfile doesn't work with.
  const bool may_sendfile = (apr_file_flags_get(content->fd) & APR_SENDFILE_ENABLED) != 0;
  FilePart part{file, static_cast<std::uint64_t>(bucket->start), bucket->length, may_sendfile};
  if (!backlog_.empty()) {
    const bool fits = !backlog_.is_file() && part.length < most_ - backlog_.left();
    if (fits || !part.can_travel()) return APR_SUCCESS;
    // Too large to become bytes: what is in front of it has to be out first.
    const apr_status_t status = wait_until_left(connection_, backlog_, 0);
    if (status != APR_SUCCESS) return status;
  }
  const Result result = part.send(fd_);
  segment_open_ = false;
  const std::uint64_t sent = bucket->length - part.length;
  count_out(connection_, sent);
  if (result == Result::kBroken) return broken(errno);
  done = result == Result::kDone;
  if (done) return APR_SUCCESS;
  if (!lingerd_has_room(0)) return hand_back(sent);
  if (part.can_travel() && backlog_.hold_file(part) == Result::kDone) {
    count_out(connection_, part.length);
    done = true;
    return APR_SUCCESS;
  }
  // The rest as bytes. Its bucket is behind this one, and comes next.
  if (sent > 0) {
    done = true;
    if (const apr_status_t status = apr_bucket_split(bucket, sent); status != APR_SUCCESS) {
      return broken(status);
    }
  }
  return APR_SUCCESS;
}

}  // namespace lingerd
