// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/offload/rest_bytes.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "contract/content.h"

namespace lingerd {
namespace {

// Files beyond 2 GiB, also where the system's default is 32 bits (-D_FILE_OFFSET_BITS=64).
static_assert(sizeof(off_t) == 8);

// As in lingerd: sendfile(2) takes at most 2 GiB at once anyway.
constexpr std::uint64_t kMostAtOnce = std::uint64_t{1} << 30;

ssize_t send_some(int socket, const FilePart& part) {
  auto at = static_cast<off_t>(part.offset);
  if (part.may_sendfile) {
    return sendfile(socket, part.file, &at, std::min(part.length, kMostAtOnce));
  }
  std::array<char, std::size_t{64} << 10> buffer;
  const ssize_t got =
      pread(part.file, buffer.data(), std::min<std::uint64_t>(buffer.size(), part.length), at);
  if (got <= 0) return got;
  return ::send(socket, buffer.data(), static_cast<std::size_t>(got), MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace

RestBytes::Result FilePart::send(int socket) {
  while (length > 0) {
    const ssize_t n = send_some(socket, *this);
    if (n > 0) {
      offset += static_cast<std::uint64_t>(n);
      length -= static_cast<std::uint64_t>(n);
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return RestBytes::Result::kWouldBlock;
    if (n == 0) errno = EIO;
    return RestBytes::Result::kBroken;
  }
  return RestBytes::Result::kDone;
}

bool FilePart::can_travel() const {
  struct stat info {};
  return is_for_reading_only(file) && fstat(file, &info) == 0 && has_rest(info, offset, length);
}

RestBytes::Result RestBytes::append(const iovec& piece) {
  if (!content_) content_.reset(memfd_create("response", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!content_) return Result::kNoRoom;
  std::size_t written = 0;
  while (written < piece.iov_len) {
    const ssize_t n = pwrite(content_.get(), static_cast<const char*>(piece.iov_base) + written,
                             piece.iov_len - written, static_cast<off_t>(end_ + written));
    if (n < 0 && errno == EINTR) continue;
    // What has been written of it lies beyond the end: the next one goes over it.
    if (n <= 0) return Result::kNoRoom;
    written += static_cast<std::size_t>(n);
  }
  end_ += written;
  return Result::kDone;
}

RestBytes::Result RestBytes::hold_file(const FilePart& part) {
  // A copy of the descriptor: httpd closes its own with the request.
  content_.reset(fcntl(part.file, F_DUPFD_CLOEXEC, 3));
  if (!content_) return Result::kNoRoom;
  offset_ = part.offset;
  end_ = part.offset + part.length;
  is_file_ = true;
  may_sendfile_ = part.may_sendfile;
  return Result::kDone;
}

RestBytes::Result RestBytes::read_file() {
  RestBytes bytes;
  std::array<char, std::size_t{64} << 10> buffer;
  for (std::uint64_t at = offset_; at < end_;) {
    const ssize_t got =
        pread(content_.get(), buffer.data(), std::min<std::uint64_t>(buffer.size(), end_ - at),
              static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) errno = EIO;
    if (got <= 0) return Result::kBroken;
    const auto length = static_cast<std::size_t>(got);
    if (bytes.append({buffer.data(), length}) != Result::kDone) return Result::kNoRoom;
    at += length;
  }
  *this = std::move(bytes);
  return Result::kDone;
}

RestBytes::Result RestBytes::send(int socket) {
  // A file may go without a copy. Memory not: sendfile(2) would let the socket refer to the memfd's
  // pages, and punching a hole over what has been sent clears the rest of a page that the client
  // has not got yet.
  FilePart part{content_.get(), offset_, left(), is_file_ && may_sendfile_};
  const Result result = part.send(socket);
  const bool moved = part.offset != offset_;
  offset_ = part.offset;
  if (result == Result::kDone) clear();
  if (result == Result::kWouldBlock && moved && !is_file_) {
    // What has been sent is memory no longer.
    fallocate(content_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
              static_cast<off_t>(offset_));
  }
  return result;
}

bool RestBytes::seal() {
  return is_file_ || lingerd::seal(content_.get());  // an earlier hand-off may have, and failed
}

void RestBytes::clear() {
  content_.reset();
  offset_ = end_ = 0;
  is_file_ = may_sendfile_ = false;
}

}  // namespace lingerd
