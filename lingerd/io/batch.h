// SPDX-License-Identifier: Apache-2.0
// A batch of a peer's messages, as one system call brings them: bytes, and descriptors that nobody
// has looked at. There is room for all that a message can carry, because what has no room the
// kernel closes itself, inside recvmmsg(2), and waits there for as long as such a close takes.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/fd_passing.h"
#include "base/unix_limits.h"
#include "contract/record.h"
#include "lingerd/core/settings.h"

namespace lingerd {

class Batch {
 public:
  Batch();

  // As recvmmsg(2), without waiting, at most `most` messages. The descriptor table must have room
  // for kMostInMessage of each.
  [[nodiscard]] int receive(int fd, std::size_t most);

  // Of message `index`:
  [[nodiscard]] std::span<const std::byte> bytes(std::size_t index) const;
  [[nodiscard]] bool was_longer(std::size_t index) const;  // than a record
  [[nodiscard]] bool lost_descriptors(std::size_t index) const;
  // Nothing in it, as at the end of a connection. After tell_messages_from_the_end() only there.
  [[nodiscard]] bool empty(std::size_t index) const;
  // Open, and the caller's from now on.
  [[nodiscard]] std::span<const int> descriptors(std::size_t index);

  // A peer may send empty messages, and at the end recvmmsg makes up more of them. From here on
  // each real one brings its sender's credentials along.
  [[nodiscard]] static bool tell_messages_from_the_end(int fd);

 private:
  struct alignas(cmsghdr) Control {
    std::array<std::byte, CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(kMostInMessage * sizeof(int))>
        bytes;
  };
  std::array<mmsghdr, kMostInBatch> messages_{};
  std::array<iovec, kMostInBatch> vectors_{};
  std::array<std::array<std::byte, sizeof(Record)>, kMostInBatch> records_{};
  std::array<Control, kMostInBatch> controls_{};
  std::array<int, kMostInMessage> descriptors_{};
};

}  // namespace lingerd
