// SPDX-License-Identifier: Apache-2.0
// The kernel's side of lingering sockets: what SocketOps means in system calls.
#pragma once

#include "lingerd/lingerer.h"
#include "lingerd/unique_fd.h"

namespace lingerd {

// Kind bits of an epoll registration: a lingering socket carries its generation (below 2^31) in the
// upper half, everything else this bit and a number of the loop's.
inline constexpr std::uint64_t kNotASocket = std::uint64_t{1} << 63;

class KernelSockets final : public SocketOps {
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

  // Whether a descriptor is one of these rather than a socket.
  [[nodiscard]] static bool is_content(int fd);

  // Closes what a peer sent and nobody wants, whatever it is, without waiting for its sake.
  static void discard(UniqueFd fd);

  DrainResult drain(SocketId id) override;
  std::uint64_t unsent(SocketId id) override;
  bool watch(SocketId id, std::uint32_t generation) override;
  bool watch_writable(SocketId id, std::uint32_t generation) override;
  void watch_readable_again(SocketId id, std::uint32_t generation) override;
  PushResult push(SocketId id, const Content& content) override;
  void send_fin(SocketId id) override;
  void close_content(SocketId content) override;
  void close(SocketId id, bool watched) override;

 private:
  bool control(int operation, std::uint32_t events, SocketId id, std::uint32_t generation) const;
  int epoll_fd_;
};

}  // namespace lingerd
