// SPDX-License-Identifier: Apache-2.0
#include "tools/ablinger/late_table.h"

#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>
#include <utility>

namespace ablinger {
namespace {

constexpr std::int64_t kMillisecondNs = 1'000'000;

std::int64_t read_clock() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

LateTable::LateTable() {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) fail("socketpair");
  sender_ = lingerd::UniqueFd(pair[0]);
  std::atomic<int> ready{0};  // 1, or -errno
  thread_ = std::jthread([this, &ready, pair] {
    const bool apart = unshare(CLONE_FILES) == 0;
    const int result = apart ? 1 : -errno;
    if (apart) close(pair[0]);  // or it would never see the end
    ready = result;
    ready.notify_one();
    if (apart) run(pair[1]);
  });
  ready.wait(0);
  close(pair[1]);
  if (ready < 0) {
    errno = -ready;
    fail("unshare");
  }
}

LateTable::~LateTable() {
  sender_.reset();  // the thread ends, and its table with all that is in it
}

void LateTable::take(lingerd::UniqueFd fd, std::int64_t when) {
  fds_[in_batch_] = std::move(fd);
  times_[in_batch_] = when;
  if (++in_batch_ == kBatch) send_batch();
}

void LateTable::send_batch() {
  if (in_batch_ == 0) return;
  iovec vector{times_.data(), in_batch_ * sizeof times_[0]};
  alignas(cmsghdr) std::byte control[CMSG_SPACE(kBatch * sizeof(int))]{};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(in_batch_ * sizeof(int));
  auto* header = reinterpret_cast<cmsghdr*>(control);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(in_batch_ * sizeof(int));
  for (std::size_t i = 0; i < in_batch_; ++i) {
    const int fd = fds_[i].get();
    std::memcpy(CMSG_DATA(header) + i * sizeof fd, &fd, sizeof fd);
  }
  if (sendmsg(sender_.get(), &message, MSG_NOSIGNAL) < 0) fail("late sockets: sendmsg");
  for (std::size_t i = 0; i < in_batch_; ++i) fds_[i].reset();
  in_batch_ = 0;
}

void LateTable::run(int receiver) {
  for (;;) {
    pollfd readable{receiver, POLLIN, 0};
    if (poll(&readable, 1, wait_millis()) > 0 && !receive(receiver)) return;
    close_due();
  }
}

// False at the end.
bool LateTable::receive(int receiver) {
  std::array<std::int64_t, kBatch> times{};
  iovec vector{times.data(), sizeof times};
  alignas(cmsghdr) std::byte control[CMSG_SPACE(kBatch * sizeof(int))]{};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (recvmsg(receiver, &message, MSG_CMSG_CLOEXEC) <= 0) return false;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  // Fewer descriptors than times: the table is full, and the kernel closed the rest.
  const std::size_t count = header ? (header->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
  for (std::size_t i = 0; i < count; ++i) {
    int fd;
    std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
    waiting_.push({times[i], fd});
  }
  return true;
}

void LateTable::close_due() {
  const std::int64_t now = read_clock();
  std::uint64_t closed = 0;
  for (; !waiting_.empty() && waiting_.top().when <= now; waiting_.pop(), ++closed) {
    close(waiting_.top().fd);
  }
  closed_.fetch_add(closed, std::memory_order_relaxed);
}

int LateTable::wait_millis() const {
  if (waiting_.empty()) return -1;
  const std::int64_t left = waiting_.top().when - read_clock();
  return left <= 0 ? 0 : static_cast<int>((left + kMillisecondNs - 1) / kMillisecondNs);
}

}  // namespace ablinger
