// SPDX-License-Identifier: Apache-2.0
#include "lingerd/sockets.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

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

// With SO_LINGER set, by another module or by a peer that kept a copy, close() would wait for the
// client and hold up everybody. As late as possible: a copy can set it at any time.
void close_at_once(int fd) {
  const linger off{};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof off);
  ::close(fd);
}

}  // namespace

bool KernelSockets::adopt(UniqueFd& fd, SocketId& id) {
  if (!was_connected(fd.get())) return false;
  id = static_cast<SocketId>(fd.release());
  return true;
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

bool KernelSockets::watch(SocketId id, std::uint32_t generation) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = std::uint64_t{generation} << 32 | id;
  return epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, static_cast<int>(id), &event) == 0;
}

void KernelSockets::close(SocketId id, bool watched) {
  // epoll watches the open file description, which Apache's copy of the descriptor may keep alive
  // for a moment: without the DEL the registration would outlive the close, and fire for a
  // descriptor number that by then is somebody else's.
  if (watched) epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, static_cast<int>(id), nullptr);
  close_at_once(static_cast<int>(id));
}

}  // namespace lingerd
