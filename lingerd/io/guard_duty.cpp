// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/guard_duty.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstring>
#include <ctime>
#include <span>

#include "base/clock.h"
#include "base/fd_passing.h"
#include "base/unique_fd.h"
#include "base/unix_socket.h"
#include "contract/record.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/parked.h"
#include "lingerd/io/file_systems.h"
#include "lingerd/io/return_addresses.h"
#include "lingerd/io/sockets.h"

namespace lingerd {
namespace {

constexpr long kTickNs = 100'000'000;
// So many of the guard's own ticks without a beat: a machine that gives nobody time stretches both.
constexpr int kStaleTicks = 10;
// More records than this fit no queue.
constexpr int kMostRecords = 1'000;
// What goes home with bytes that are there: a request, or its beginning.
constexpr std::uint64_t kStays = bit_of(RecordKind::kIdle) | bit_of(RecordKind::kRequest);

bool asks(int socket) {
  char byte = 0;
  return recv(socket, &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT) > 0;
}

int option(int fd, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  return getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

bool is_peer(int fd) {
  return option(fd, SO_TYPE) == SOCK_SEQPACKET && option(fd, SO_DOMAIN) == AF_UNIX &&
         option(fd, SO_ACCEPTCONN) == 0;
}

// A message of a queue, without taking it. Its length, or -1.
ssize_t peek_at(int peer, int offset, std::span<std::byte> record, msghdr& message) {
  iovec vector{record.data(), record.size()};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  ssize_t length = -1;
  if (setsockopt(peer, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset) == 0) {
    length = recvmsg(peer, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  }
  message.msg_iov = nullptr;  // it is this function's
  return length;
}

struct Pair {
  int socket = -1;
  int way = -1;
};

// Copies of the two descriptors of an idle connection's record.
Pair copies_of(int peer, int offset) {
  std::array<std::byte, sizeof(Record)> record{};
  DescriptorRoom<2> room;
  msghdr message{};
  message.msg_control = room.bytes.data();
  message.msg_controllen = CMSG_LEN(2 * sizeof(int));
  if (peek_at(peer, offset, record, message) < 0) return {};
  std::array<int, 2> fds{-1, -1};
  (void)descriptors_in(message, fds);
  return {fds[0], fds[1]};
}

bool is_name(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_PATH) != 0;
}

}  // namespace

std::uint64_t cookie_of(int socket) {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  if (getsockopt(socket, SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) return 0;
  return cookie;
}

void GuardDuty::run() const {
  std::uint64_t beats = table_->beats.load();
  int ticks = 0;
  std::vector<int> peers;
  for (;;) {
    const timespec tick{0, kTickNs};
    nanosleep(&tick, nullptr);
    const std::uint64_t now = table_->beats.load();
    if (now != beats) {
      beats = now;
      ticks = 0;
      if (table_->phase.load() == GuardTable::kActs) table_->phase.store(GuardTable::kHasActed);
      continue;
    }
    if (++ticks < kStaleTicks) continue;
    table_->phase.store(GuardTable::kActs);
    send_parked_home();
    // A loop that stands still accepts no peers: once is enough.
    if (ticks == kStaleTicks) peers = find_peers();
    std::erase_if(peers, [this](int peer) { return !look_at_queue(peer); });
  }
}

// Those that ask; what is idle stays where it is, and costs httpd no worker.
void GuardDuty::send_parked_home() const {
  const std::uint64_t now_ms = monotonic_ns() / 1'000'000;
  int full = -1;  // way: its listen queue is
  for (SocketId id = 0; id < table_->end.load(); ++id) {
    GuardedSlot& slot = slots_[id];
    const int fd = static_cast<int>(id);
    if (slot.state.load() != GuardedSlot::kWaiting || slot.way == full || !asks(fd)) continue;
    if (!slot.move(GuardedSlot::kWaiting, GuardedSlot::kGuards)) continue;
    // Only now it can't be another's number.
    const bool still = asks(fd);
    const bool sent = still && ReturnAddresses::send_by(slot.way, fd, slot.stay.back(now_ms)) ==
                                   ParkOps::SendBack::kSent;
    if (still && !sent) full = slot.way;
    if (sent) ++table_->sent;
    slot.state.store(sent ? GuardedSlot::kHome : GuardedSlot::kWaiting);
  }
}

std::vector<int> GuardDuty::find_peers() const {
  std::vector<int> peers;
  for (std::size_t fd = 3; fd < size_; ++fd) {
    if (is_peer(static_cast<int>(fd))) peers.push_back(static_cast<int>(fd));
  }
  return peers;
}

// Without taking anything out: the rest is the loop's, in the order in which it came. False: what
// lies there had better not be looked at again.
bool GuardDuty::look_at_queue(int peer) const {
  int offset = 0;
  bool fine = true;
  for (int i = 0; fine && i < kMostRecords; ++i) {
    std::array<std::byte, sizeof(Record)> bytes{};
    msghdr message{};
    const ssize_t n = peek_at(peer, offset, bytes, message);
    if (n <= 0) break;
    Handoff handoff;
    const auto record = std::span(bytes).first(static_cast<std::size_t>(n));
    if (decode(record, handoff) == DecodeResult::kOk && (bit_of(handoff.kind) & kStays) != 0) {
      fine = look_at_record(peer, offset, handoff);
    }
    offset += static_cast<int>(n);
  }
  const int off = -1;
  setsockopt(peer, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof off);
  return fine;
}

bool GuardDuty::look_at_record(int peer, int offset, const Handoff& handoff) const {
  if (!table_->copies.has_room_for(2)) return false;
  Pair pair = copies_of(peer, offset);
  // What isn't what it should be isn't closed here: that may take for ever.
  const auto leave = [&](int& fd) {
    if (fd >= 0) table_->copies.leave({fd, peer_of(peer).value_or(ucred{}).uid});
    fd = -1;
  };
  const bool fits = pair.socket < 0 || KernelSockets::is_clients(pair.socket);
  if (!fits) leave(pair.socket);
  const bool names = pair.way < 0 || is_name(pair.way);
  if (!names) leave(pair.way);
  const UniqueFd socket(pair.socket);
  const UniqueFd way(pair.way);
  if (!fits || !names) return false;
  if (!socket || !way || !asks(socket.get())) return true;
  if (!file_systems().known_socket_at(way.get())) return true;
  const UniqueFd home = ReturnAddresses::connect_by(way.get());
  if (!home) return true;  // full: in the next round
  const std::uint64_t key = record_key(cookie_of(socket.get()), handoff.handed_off_ns);
  if (table_->records.claim(key) != ClaimedRecords::Claim::kFirst) return true;
  const Return back =
      Stay::of(handoff, to_millis(handoff.handed_off_ns)).back(to_millis(monotonic_ns()));
  if (ReturnAddresses::send_over(home, socket.get(), back)) ++table_->unread;
  return true;
}

}  // namespace lingerd
