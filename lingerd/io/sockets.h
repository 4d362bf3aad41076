// SPDX-License-Identifier: Apache-2.0
// The kernel's side of lingering sockets: what SocketOps and
// DeliveryOps mean in system calls.
//
// Contents are checked, not believed. A memfd must be sealed against writing, growing and
// shrinking, a file be open for reading only: nothing changes it under lingerd. pread(2), not
// mmap(2) or sendfile(2): a file that becomes shorter is a short read and ends that delivery,
// and MSG_DONTWAIT is ours, not a flag of a shared open file. Files must be of a local file
// system: a dead file server would hold up all clients.
//
// A socket is closed here, not by the closer, if that can't wait: in FIN_WAIT2, TIME_WAIT or
// CLOSE, where SO_LINGER means nothing. Asking for the state costs what clearing SO_LINGER did,
// and leaves no moment in which a peer sets it again.
#pragma once

#include <cstdint>
#include "base/unique_fd.h"
#include "contract/record.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/deliveries.h"
#include "lingerd/core/delivery.h"
#include "lingerd/core/drain.h"
#include "lingerd/core/lingerer.h"

namespace lingerd {

class KernelSockets final : public SocketOps, public DeliveryOps {
 public:
  explicit KernelSockets(int epoll_fd) : epoll_fd_(epoll_fd) {}

  // Takes a received descriptor, and owns it from here on until close(). False, and `fd` is still
  // the caller's, if it is no TCP socket that was connected, whatever else it is.
  [[nodiscard]] static bool adopt(UniqueFd& fd, SocketId& id);

  // Whether it is one that adopt() takes.
  [[nodiscard]] static bool is_clients(int fd);

  // Whether a descriptor can hold the rest of a response: a memfd that nobody can change any more,
  // or a file of this machine that is open for reading only; long enough for what the record says.
  // Fills `content`, but for its number.
  [[nodiscard]] static bool examine_content(int fd, const Handoff& handoff, Content& content);

  // Lets go of a client's socket that isn't watched.
  static void discard(UniqueFd fd);

  DrainResult drain(SocketId id) override;
  std::uint64_t unsent(SocketId id) override;
  bool watch(SocketId id, std::uint32_t generation) override;
  bool watch_writable(SocketId id, std::uint32_t generation) override;
  void watch_readable_again(SocketId id, std::uint32_t generation) override;
  void stop_watching(SocketId id, std::uint32_t generation) override;
  void watch_writable_again(SocketId id, std::uint32_t generation) override;
  PushResult push(SocketId id, const Content& content) override;
  void send_fin(SocketId id) override;
  void close_content(SocketId content) override;
  void close(SocketId id, bool watched) override;

 private:
  bool control(int operation, std::uint32_t events, SocketId id, std::uint32_t generation) const;
  int epoll_fd_;
};

}  // namespace lingerd
