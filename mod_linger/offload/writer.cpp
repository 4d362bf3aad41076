// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/offload/writer.h"

#include <apr_optional.h>
#include <http_core.h>
#include <http_request.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/clock.h"
#include "mod_linger/child.h"
#include "mod_linger/connection.h"
#include "mod_linger/offload/rest_bytes.h"
#include "mod_linger/offload/room.h"
#include "mod_linger/offload/sender.h"
#include "mod_linger/offload/wait.h"
#include "mod_linger/settings.h"

namespace lingerd {
namespace {

using Result = RestBytes::Result;

// Without a sender a handler that is at work gets as far ahead of its client as it does with the
// core's filter (FlushMaxThreshold's default).
constexpr std::uint64_t kMostUnsentAlone = 65'536;

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

OffloadWriter::OffloadWriter(conn_rec* connection, Offload& offload, const Settings& settings)
    : connection_(connection),
      offload_(offload),
      rest_(*offload.rest),
      rest_bytes_(rest_.bytes),
      most_(settings.offload_max),
      files_travel_(settings.offload_files) {}

apr_status_t OffloadWriter::broken(apr_status_t why) {
  return mark_broken(connection_, why);
}

int OffloadWriter::fd() const {
  return socket_of(connection_);  // another thread may have closed it: never kept
}

// mod_logio's %O counts what this filter has taken, as it counts what the core's has. A goodbye
// behind the request's end is nobody's.
void OffloadWriter::count_out(std::uint64_t bytes) const {
  static const auto add = APR_RETRIEVE_OPTIONAL_FN(ap_logio_add_bytes_out);
  if (add == nullptr || bytes == 0 || offload_.kept != nullptr) return;
  add(connection_, static_cast<apr_off_t>(bytes));
}

apr_status_t OffloadWriter::write(apr_bucket_brigade* brigade) {
  if (!rest_.is_ours()) {  // forked while a response was under way: it is the parent's
    connection_->aborted = 1;
    return APR_ECONNABORTED;
  }
  brigade_ = brigade;
  lock_ = std::unique_lock(rest_.mutex);
  if (rest_.error != 0) return broken(rest_.error);
  // Asked first: the rest would be read at each of many small writes, for nothing.
  if (!rest_bytes_.empty() && is_writable(rest_.socket.get()) &&
      rest_.send(monotonic_ns()) == Result::kBroken) {
    return broken(rest_.error);
  }
  apr_status_t status = write_buckets();
  if (status == APR_SUCCESS && !handed_back_) status = let_send(kSenderPauseNs, kMostUnsentAlone);
  return status;
}

apr_status_t OffloadWriter::write_buckets() {
  apr_bucket* bucket = APR_BRIGADE_FIRST(brigade_);
  while (bucket != APR_BRIGADE_SENTINEL(brigade_)) {
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
      if (bucket == APR_BRIGADE_FIRST(brigade_)) drop_until(APR_BUCKET_NEXT(bucket));
      bucket = APR_BRIGADE_FIRST(brigade_);
    }
  }
  return write_pieces(APR_BRIGADE_SENTINEL(brigade_), true);
}

apr_status_t OffloadWriter::write_bucket(apr_bucket* bucket) {
  if (APR_BUCKET_IS_METADATA(bucket)) return write_metadata(bucket);
  bool done = false;
  if (APR_BUCKET_IS_FILE(bucket)) {
    const apr_status_t status = write_file(bucket, done);
    if (status != APR_SUCCESS) return status;
  }
  return done || handed_back_ ? APR_SUCCESS : take(bucket);
}

// A FLUSH before the response's end is a promise: nothing of what came before it waits for what
// comes after it.
apr_status_t OffloadWriter::write_metadata(apr_bucket* bucket) {
  if (APR_BUCKET_IS_FLUSH(bucket)) {
    end_segment();
    return let_send(0, 0);
  }
  if (APR_BUCKET_IS_EOS(bucket)) {
    offload_.state = OffloadState::kEnded;
  } else if (AP_BUCKET_IS_EOR(bucket) && !rest_bytes_.empty()) {
    keep_bucket(bucket);
  }
  return APR_SUCCESS;
}

// Nothing may rest while the handler pauses: the sender begins `in_ns` from now. Where there is
// none, the worker waits as it does in the core's filter.
apr_status_t OffloadWriter::let_send(std::uint64_t in_ns, std::uint64_t else_at_most) {
  if (rest_bytes_.empty() || offload_.kept != nullptr) return APR_SUCCESS;
  if (let_sender_begin(offload_.rest, monotonic_ns() + in_ns)) return APR_SUCCESS;
  if (offload_.state == OffloadState::kEnded) return APR_SUCCESS;
  return wait_until_left(connection_, rest_, else_at_most);
}

void OffloadWriter::keep_bucket(apr_bucket* bucket) {
  if (offload_.kept == nullptr) {
    offload_.kept = apr_brigade_create(connection_->pool, connection_->bucket_alloc);
  }
  APR_BUCKET_REMOVE(bucket);
  APR_BRIGADE_INSERT_TAIL(offload_.kept, bucket);
}

void OffloadWriter::drop_until(const apr_bucket* until) {
  while (APR_BRIGADE_FIRST(brigade_) != until) apr_bucket_delete(APR_BRIGADE_FIRST(brigade_));
}

// What MSG_MORE made the kernel hold back, for at most 200 ms, goes now: setting TCP_NODELAY (which
// httpd has set already) says so.
void OffloadWriter::end_segment() {
  if (!offload_.segment_open) return;
  constexpr int kOn = 1;
  setsockopt(fd(), IPPROTO_TCP, TCP_NODELAY, &kOn, sizeof kOn);
  offload_.segment_open = false;
}

apr_status_t OffloadWriter::take(apr_bucket* bucket) {
  const char* data = nullptr;
  apr_size_t length = 0;
  apr_status_t status = apr_bucket_read(bucket, &data, &length, APR_NONBLOCK_READ);
  if (APR_STATUS_IS_EAGAIN(status)) {
    // What has been gathered must not wait behind a pipe whose writer takes its time.
    status = write_pieces(bucket, false);
    if (status != APR_SUCCESS || handed_back_) return status;
    end_segment();
    status = let_send(kSenderPauseNs, 0);
    if (status != APR_SUCCESS) return status;
    lock_.unlock();
    status = apr_bucket_read(bucket, &data, &length, APR_BLOCK_READ);
    lock_.lock();
    if (status == APR_SUCCESS && rest_.error != 0) status = rest_.error;
  }
  if (status != APR_SUCCESS) return broken(status);
  if (length > 0) pieces_[count_++] = {const_cast<char*>(data), length};
  return APR_SUCCESS;
}

// Writes what has been gathered, and drops the buckets that it was in, up to `until`.
apr_status_t OffloadWriter::write_pieces(apr_bucket* until, bool more) {
  std::span<iovec> rest(pieces_.data(), count_);
  count_ = 0;
  std::uint64_t sent = 0;
  if (!rest.empty() && rest_bytes_.empty()) {
    const apr_status_t status = send_pieces(rest, more, sent);
    count_out(sent);
    if (status != APR_SUCCESS) return status;
    if (!rest.empty() && !lingerd_has_room(length_of(rest))) return hand_back(sent);
  }
  if (!rest.empty()) {
    count_out(length_of(rest));
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
        sendmsg(fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL | (more ? int{MSG_MORE} : 0));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) return broken(errno);
    offload_.segment_open = more;
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
      const apr_status_t status = apr_bucket_split(first, static_cast<apr_size_t>(sent));
      if (status != APR_SUCCESS) return broken(status);
    }
    sent -= first->length;
    apr_bucket_delete(first);
  }
  return APR_SUCCESS;
}

// Into the rest, in pieces that fit.
apr_status_t OffloadWriter::keep(std::span<iovec> pieces) {
  apr_status_t status = APR_SUCCESS;
  const bool holds_socket = rest_.hold_socket(fd());
  if (rest_bytes_.is_file()) status = keep_behind_file();
  while (status == APR_SUCCESS && !pieces.empty()) {
    status = wait_until_left(connection_, rest_, most_ - 1);
    if (status != APR_SUCCESS) break;
    const std::uint64_t fits =
        std::min<std::uint64_t>(pieces.front().iov_len, most_ - rest_bytes_.left());
    const iovec part{pieces.front().iov_base, static_cast<std::size_t>(fits)};
    // No memory or descriptor for it: the worker waits, as it would without offload.
    if (!holds_socket || rest_bytes_.append(part) != Result::kDone) status = send_waiting(part);
    skip(pieces, part.iov_len);
  }
  return status;
}

apr_status_t OffloadWriter::send_waiting(iovec part) {
  apr_status_t status = wait_until_left(connection_, rest_, 0);
  std::span<iovec> rest(&part, 1);
  while (status == APR_SUCCESS) {
    std::uint64_t sent = 0;
    status = send_pieces(rest, false, sent);
    if (status != APR_SUCCESS || rest.empty()) break;
    status = wait_writable(connection_, fd());
  }
  return status;
}

}  // namespace lingerd
