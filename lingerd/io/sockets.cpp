// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/sockets.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/errors.h"
#include "contract/content.h"
#include "lingerd/io/closer.h"
#include "lingerd/io/epoll_tag.h"
#include "lingerd/io/file_systems.h"

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

// Whether close(2) has nothing to wait for, whatever SO_LINGER is set to now or, by a process that
// has a copy, in a moment: our FIN is out and acknowledged, or the connection is over. Then the
// client has all there is, and so have most.
bool is_quick_to_close(int fd) {
  constexpr std::uint8_t kFinWait2 = 5;
  constexpr std::uint8_t kTimeWait = 6;
  std::uint8_t state = 0;  // the first field of tcp_info
  socklen_t size = sizeof state;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &size) != 0 || is_multipath_tcp(fd)) {
    return false;
  }
  return state == kFinWait2 || state == kTimeWait || state == kClosed;
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
  const bool sealed = is_sealed(fd);
  const FileSystems::Kind kind = sealed ? FileSystems::Kind::kMemory : file_systems().kind_of(fd);
  if (!(sealed || is_for_reading_only(fd)) || kind == FileSystems::Kind::kUnknown) return false;
  struct stat file {};  // only now: fstat(2) asks the server of a remote file system
  if (fstat(fd, &file) != 0 || !has_rest(file, handoff.content_offset, handoff.content_length)) {
    return false;
  }
  // A file of a tmpfs takes memory as well: its own, unless nobody but us holds it any more.
  const bool takes_memory = kind == FileSystems::Kind::kMemory && (sealed || file.st_nlink == 0);
  content.memory = takes_memory ? static_cast<std::uint64_t>(file.st_blocks) * 512 : 0;
  content.offset = handoff.content_offset;
  content.left = handoff.content_length;
  return true;
}

void KernelSockets::discard(UniqueFd fd) {
  if (fd && is_quick_to_close(fd.get())) {
    fd.reset();
  } else {
    closer().take(std::move(fd), Closer::kOwn);
  }
}

DrainResult KernelSockets::drain(SocketId id) {
  // MSG_TRUNC on a TCP socket discards in the kernel, without a copy (tcp(7)). MSG_DONTWAIT and not
  // O_NONBLOCK: file status flags are shared with Apache's copy of the descriptor.
  const ssize_t n = ::recv(static_cast<int>(id), nullptr, kMostAtOnce, MSG_TRUNC | MSG_DONTWAIT);
  using State = DrainResult::State;
  if (n > 0) return {State::kOpen, static_cast<std::uint64_t>(n)};
  if (n == 0) return {State::kEof, 0};
  if (is_transient(errno)) return {State::kOpen, 0};
  return {errno == ENOTCONN ? State::kNotConnected : State::kReset, 0};
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
  event.data.u64 = socket_tag(id, generation);
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

void KernelSockets::stop_watching(SocketId id, std::uint32_t generation) {
  control(EPOLL_CTL_MOD, 0, id, generation);
}

void KernelSockets::watch_writable_again(SocketId id, std::uint32_t generation) {
  control(EPOLL_CTL_MOD, EPOLLOUT, id, generation);
}

PushResult KernelSockets::push(SocketId id, const Content& content) {
  using State = PushResult::State;
  // Not sendfile(2), which has no MSG_DONTWAIT: whether it waits is up to a flag of the open file,
  // which any process with a copy of the socket can change. Slow clients don't notice the copy.
  static std::array<char, std::size_t{256} << 10> buffer;
  const ssize_t got = pread(static_cast<int>(content.id), buffer.data(),
                            std::min<std::uint64_t>(content.left, buffer.size()),
                            static_cast<off_t>(content.offset));
  if (got <= 0) return {State::kCutShort, 0};
  const ssize_t n = send(static_cast<int>(id), buffer.data(), static_cast<std::size_t>(got),
                         MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n >= 0) return {State::kMoved, static_cast<std::uint64_t>(n)};
  return {is_transient(errno) ? State::kFull : State::kReset, 0};
}

void KernelSockets::send_fin(SocketId id) {
  shutdown(static_cast<int>(id), SHUT_WR);
}

// The last close of a file that has no name any more gives its blocks back, which takes its time.
void KernelSockets::close_content(SocketId content) {
  closer().take(UniqueFd(static_cast<int>(content)), Closer::kOwn);
}

void KernelSockets::close(SocketId id, bool watched) {
  // epoll watches the open file description, which Apache's copy of the descriptor may keep alive
  // for a moment: without the DEL the registration would outlive the close, and fire for a
  // descriptor number that by then is somebody else's.
  if (watched) epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, static_cast<int>(id), nullptr);
  discard(UniqueFd(static_cast<int>(id)));
}

}  // namespace lingerd
