// SPDX-License-Identifier: Apache-2.0
#include "lingerd/sockets.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace lingerd {
namespace {

// One look takes at most this much, so that one client at full speed doesn't hold up the others.
constexpr std::size_t kMostAtOnce = std::size_t{8} << 20;

#ifndef IPPROTO_MPTCP
constexpr int IPPROTO_MPTCP = 262;
#endif

// States of a connection, as in <netinet/tcp.h>, which doesn't go together with <linux/tcp.h>.
constexpr int kSynSent = 2;
constexpr int kClosed = 7;
constexpr int kListening = 10;

bool is_multipath_tcp(int fd) {
  int protocol = 0;
  socklen_t size = sizeof protocol;
  return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 &&
         protocol == IPPROTO_MPTCP;
}

// TCP, and connected now or once: the client may have reset it on its way here. SO_PROTOCOL alone
// would take raw sockets and some of netlink's for TCP; a question of TCP's own only TCP answers.
bool was_connected(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return is_multipath_tcp(fd);
  switch (info.tcpi_state) {
    case kSynSent:
    case kListening: return false;
    // Multipath TCP counts no segments here; one that never was connected says so at its first
    // look.
    case kClosed: return info.tcpi_segs_out > 0 || is_multipath_tcp(fd);
    default: return true;
  }
}

// Reading from it waits for a disk at most. A file server that is away would hold up every client;
// so might whatever stands behind FUSE. The list is of what is known to be fine.
bool is_local(int fd) {
  static constexpr std::array<unsigned long, 11> kLocal = {
      0x01021994,  // tmpfs, and each memfd
      0x858458f6,  // ramfs
      0xef53,      // ext2, ext3, ext4
      0x58465342,  // XFS
      0x9123683e,  // Btrfs
      0xca451a4e,  // bcachefs
      0x2fc12fc1,  // ZFS
      0xf2f52010,  // F2FS
      0x794c7630,  // overlayfs
      0x73717368,  // SquashFS
      0xe0f5e1e2,  // EROFS
  };
  struct statfs system {};
  return fstatfs(fd, &system) == 0 &&
         std::ranges::find(kLocal, static_cast<unsigned long>(system.f_type)) != kLocal.end();
}

// With SO_LINGER set, by another module or by a peer that kept a copy, close() would wait for the
// client and hold up everybody. As late as possible: a copy can set it at any time.
void close_at_once(int fd) {
  const linger off{};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof off);
  ::close(fd);
}

}  // namespace

bool KernelSockets::is_clients(int fd) {
  return was_connected(fd);
}

bool KernelSockets::adopt(UniqueFd& fd, SocketId& id) {
  if (!was_connected(fd.get())) return false;
  id = static_cast<SocketId>(fd.release());
  return true;
}

bool KernelSockets::examine_content(int fd, const Handoff& handoff, Content& content) {
  constexpr int kSeals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
  struct stat file {};
  if (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode) || file.st_size < 0) return false;
  const int seals = fcntl(fd, F_GET_SEALS);
  const bool sealed = seals >= 0 && (seals & kSeals) == kSeals;
  const bool read_only = (fcntl(fd, F_GETFL) & (O_ACCMODE | O_PATH)) == O_RDONLY;
  if (!(sealed || read_only) || !is_local(fd)) return false;
  const auto size = static_cast<std::uint64_t>(file.st_size);
  if (handoff.content_offset > size || handoff.content_length > size - handoff.content_offset) {
    return false;
  }
  content.memory = sealed ? static_cast<std::uint64_t>(file.st_blocks) * 512 : 0;
  content.offset = handoff.content_offset;
  content.left = handoff.content_length;
  return true;
}

bool KernelSockets::is_content(int fd) {
  struct stat file {};
  return fstat(fd, &file) == 0 && S_ISREG(file.st_mode);
}

void KernelSockets::discard(UniqueFd fd) {
  if (fd) close_at_once(fd.release());
}

DrainResult KernelSockets::drain(SocketId id) {
  // MSG_TRUNC on a TCP socket discards in the kernel, without a copy (tcp(7)). MSG_DONTWAIT and not
  // O_NONBLOCK: file status flags are shared with Apache's copy of the descriptor.
  const ssize_t n = ::recv(static_cast<int>(id), nullptr, kMostAtOnce, MSG_TRUNC | MSG_DONTWAIT);
  using State = DrainResult::State;
  if (n > 0) return {State::kOpen, static_cast<std::uint64_t>(n)};
  if (n == 0) return {State::kEof, 0};
  switch (errno) {
    case EAGAIN:
    case EINTR:
    case ENOMEM:
    case ENOBUFS: return {State::kOpen, 0};
    case ENOTCONN: return {State::kNotConnected, 0};
    default: return {State::kReset, 0};
  }
}

std::uint64_t KernelSockets::unsent(SocketId id) {
  int bytes = 0;
  if (ioctl(static_cast<int>(id), SIOCOUTQ, &bytes) != 0 || bytes < 0) return 0;
  return static_cast<std::uint64_t>(bytes);
}

bool KernelSockets::control(int operation, std::uint32_t events, SocketId id,
                            std::uint32_t generation) const {
  epoll_event event{};
  event.events = events;
  event.data.u64 = std::uint64_t{generation} << 32 | id;
  return epoll_ctl(epoll_fd_, operation, static_cast<int>(id), &event) == 0;
}

bool KernelSockets::watch(SocketId id, std::uint32_t generation) {
  return control(EPOLL_CTL_ADD, EPOLLIN, id, generation);
}

bool KernelSockets::watch_writable(SocketId id, std::uint32_t generation) {
  return control(EPOLL_CTL_ADD, EPOLLOUT, id, generation);
}

void KernelSockets::watch_readable_again(SocketId id, std::uint32_t generation) {
  control(EPOLL_CTL_MOD, EPOLLIN, id, generation);
}

PushResult KernelSockets::push(SocketId id, const Content& content) {
  using State = PushResult::State;
  // Not sendfile(2), which has no MSG_DONTWAIT: whether it waits is up to a flag of the open file,
  // which whoever keeps a copy of the socket can change. Slow clients don't notice the copy.
  static std::array<char, std::size_t{256} << 10> buffer;
  const ssize_t got = pread(static_cast<int>(content.id), buffer.data(),
                            std::min<std::uint64_t>(content.left, buffer.size()),
                            static_cast<off_t>(content.offset));
  if (got <= 0) return {State::kCutShort, 0};
  const ssize_t n = send(static_cast<int>(id), buffer.data(), static_cast<std::size_t>(got),
                         MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n >= 0) return {State::kMoved, static_cast<std::uint64_t>(n)};
  switch (errno) {
    case EAGAIN:
    case EINTR:
    case ENOMEM:
    case ENOBUFS: return {State::kFull, 0};
    default: return {State::kReset, 0};
  }
}

void KernelSockets::send_fin(SocketId id) {
  shutdown(static_cast<int>(id), SHUT_WR);
}

void KernelSockets::close_content(SocketId content) {
  ::close(static_cast<int>(content));
}

void KernelSockets::close(SocketId id, bool watched) {
  // epoll watches the open file description, which Apache's copy of the descriptor may keep alive
  // for a moment: without the DEL the registration would outlive the close, and fire for a
  // descriptor number that by then is somebody else's.
  if (watched) epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, static_cast<int>(id), nullptr);
  close_at_once(static_cast<int>(id));
}

}  // namespace lingerd
