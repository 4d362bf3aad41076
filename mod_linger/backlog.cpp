// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/backlog.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace lingerd {

Backlog::Result Backlog::append(std::span<const iovec> pieces) {
  if (!content_) content_.reset(memfd_create("response", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!content_) return Result::kNoRoom;
  for (const iovec& piece : pieces) {
    std::size_t written = 0;
    while (written < piece.iov_len) {
      const ssize_t n = pwrite(content_.get(), static_cast<const char*>(piece.iov_base) + written,
                               piece.iov_len - written, static_cast<off_t>(end_));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return Result::kNoRoom;
      written += static_cast<std::size_t>(n);
      end_ += static_cast<std::uint64_t>(n);
    }
  }
  return Result::kDone;
}

Backlog::Result Backlog::hold_file(int file, std::uint64_t offset, std::uint64_t length) {
  // A copy of the descriptor: httpd closes its own with the request.
  content_.reset(fcntl(file, F_DUPFD_CLOEXEC, 3));
  if (!content_) return Result::kNoRoom;
  offset_ = offset;
  end_ = offset + length;
  is_file_ = true;
  return Result::kDone;
}

// A file goes without a copy. Memory doesn't: sendfile(2) would let the socket refer to the memfd's
// pages, and punching a hole over what has been sent clears the rest of a page that the client has
// not got yet.
ssize_t Backlog::send_some(int socket) const {
  auto at = static_cast<off_t>(offset_);
  if (is_file_) return sendfile(socket, content_.get(), &at, end_ - offset_);
  std::array<char, std::size_t{64} << 10> buffer;
  const ssize_t got = pread(content_.get(), buffer.data(),
                            std::min<std::uint64_t>(buffer.size(), end_ - offset_), at);
  if (got <= 0) return got;
  return ::send(socket, buffer.data(), static_cast<std::size_t>(got), MSG_DONTWAIT | MSG_NOSIGNAL);
}

Backlog::Result Backlog::send(int socket) {
  const std::uint64_t before = offset_;
  while (offset_ < end_) {
    const ssize_t n = send_some(socket);
    if (n > 0) {
      offset_ += static_cast<std::uint64_t>(n);
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n == 0) errno = EIO;
    return Result::kBroken;
  }
  if (offset_ == end_) {
    clear();
    return Result::kDone;
  }
  if (!is_file_ && offset_ > before) {
    // What has been sent is memory no longer.
    fallocate(content_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
              static_cast<off_t>(offset_));
  }
  return Result::kWouldBlock;
}

bool Backlog::seal() {
  if (is_file_) return true;
  constexpr int kSeals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
  return fcntl(content_.get(), F_ADD_SEALS, kSeals) == 0;
}

void Backlog::clear() {
  content_.reset();
  offset_ = end_ = 0;
  is_file_ = false;
}

}  // namespace lingerd
