// SPDX-License-Identifier: Apache-2.0
// The part of a response that the client's socket doesn't take: bytes in a memfd, or the rest of a
// file that is sent as it is. Owned by a connection; knows nothing of httpd.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "base/unique_fd.h"

namespace lingerd {

struct FilePart;

class RestBytes {
 public:
  // How a system call on the client's socket went.
  enum class Result {
    kDone,
    kWouldBlock,  // the socket takes no more for now
    kBroken,      // the connection is over (errno says how)
    kNoRoom,      // no memfd can be had, or it takes no more
  };

  [[nodiscard]] bool empty() const { return left() == 0; }
  [[nodiscard]] std::uint64_t left() const { return end_ - offset_; }
  [[nodiscard]] bool is_file() const { return is_file_; }

  // Appends bytes, all or none. Not to a file's rest: send that first.
  [[nodiscard]] Result append(const iovec& piece);

  // The rest becomes a part of an open file; only while it is empty.
  [[nodiscard]] Result hold_file(const FilePart& part);

  // A file's rest becomes bytes in memory, so that others can follow. Nothing changes on kNoRoom.
  [[nodiscard]] Result read_file();

  // Sends what the socket takes, without waiting. A file that has become too short is kBroken: the
  // response can't be completed.
  [[nodiscard]] Result send(int socket);

  // For a hand-off: nobody can change the bytes any more (a file's rest is what it is).
  [[nodiscard]] bool seal();
  [[nodiscard]] int descriptor() const { return content_.get(); }
  [[nodiscard]] std::uint64_t offset() const { return offset_; }

  void clear();

 private:
  UniqueFd content_;
  std::uint64_t offset_ = 0;
  std::uint64_t end_ = 0;
  bool is_file_ = false;
  bool may_sendfile_ = false;
};

// A stretch of an open file, which it doesn't own.
struct FilePart {
  int file = -1;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  bool may_sendfile = false;

  // As RestBytes::send; moves on by what the socket took.
  [[nodiscard]] RestBytes::Result send(int socket);
  // Whether lingerd would take it: a regular file, open for reading only, that is long enough.
  [[nodiscard]] bool can_travel() const;
};

}  // namespace lingerd
