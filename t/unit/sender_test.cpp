// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/offload/sender.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>

#include "base/unique_fd.h"
#include "mod_linger/offload/rest.h"
#include "mod_linger/offload/rest_bytes.h"

#include <CppUTest/TestHarness.h>

using lingerd::Rest;
using lingerd::RestBytes;
using lingerd::UniqueFd;

namespace {

constexpr int kGenerousMs = 20'000;

std::uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

bool readable(const UniqueFd& fd, int wait_ms) {
  pollfd waiting{fd.get(), POLLIN, 0};
  return poll(&waiting, 1, wait_ms) == 1;
}

std::string read_bytes(const UniqueFd& fd, std::size_t size) {
  std::string received;
  std::array<char, 65536> buffer{};
  while (received.size() < size && readable(fd, kGenerousMs)) {
    const ssize_t n = recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (n <= 0) break;
    received.append(buffer.data(), static_cast<std::size_t>(n));
  }
  return received;
}

// The thread has begun, and sleeps: three looks in a row say so.
void wait_until_sender_sleeps() {
  const auto sleeps = [](const std::filesystem::path& task) {
    std::string pid;
    std::string name;
    std::string state;
    std::ifstream(task / "stat") >> pid >> name >> state;
    return name == "(linger_sender)" && state == "S";
  };
  int looks = 0;
  for (int waited_ms = 0; waited_ms < kGenerousMs && looks < 3; waited_ms += 5) {
    poll(nullptr, 0, 5);
    bool found = false;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
      found = found || sleeps(task);
    }
    looks = found ? looks + 1 : 0;
  }
  LONGS_EQUAL(3, looks);
}

// A worker's side, whose socket takes nothing more, and a client's.
struct Pair {
  UniqueFd worker, client;
  std::size_t filled = 0;
  std::shared_ptr<Rest> rest;

  explicit Pair(std::uint64_t timeout_ns = 60'000'000'000) {
    std::array<int, 2> fds{};
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data());
    worker.reset(fds[0]);
    client.reset(fds[1]);
    std::array<char, 4096> filler{};
    for (ssize_t n = 0; (n = send(fds[0], filler.data(), filler.size(), MSG_DONTWAIT)) > 0;) {
      filled += static_cast<std::size_t>(n);
    }
    rest = Rest::make(timeout_ns);
    CHECK(rest->hold_socket(fds[0]));
  }

  bool keep(const std::string& text, std::uint64_t due_ns) const {
    const std::scoped_lock lock(rest->mutex);
    std::string bytes = text;
    CHECK(rest->bytes.append({bytes.data(), bytes.size()}) == RestBytes::Result::kDone);
    return lingerd::let_sender_begin(rest, due_ns);
  }
};

}  // namespace

TEST_GROUP(Sender){void setup() override{if (geteuid() == 0) become_nobody();
}
// A process that may change its user gets no sender, and the tests run as root.
static void become_nobody() {
  constexpr uid_t kNobody = 65534;
  CHECK(setresuid(kNobody, kNobody, kNobody) == 0);
}
}
;

TEST(Sender, sends_what_is_due) {
  const Pair pair;
  CHECK_TRUE(pair.keep("the rest", now_ns()));
  const std::string received = read_bytes(pair.client, pair.filled + 8);
  STRCMP_EQUAL("the rest", received.substr(pair.filled).c_str());
  lingerd::take_from_sender(pair.rest);
  CHECK_TRUE(pair.rest->bytes.empty());
}

TEST(Sender, sends_again_what_comes_later) {
  const Pair pair;
  CHECK_TRUE(pair.keep("one", now_ns()));
  LONGS_EQUAL(pair.filled + 3, read_bytes(pair.client, pair.filled + 3).size());
  CHECK_TRUE(pair.keep("two", now_ns() + lingerd::kSenderPauseNs));
  STRCMP_EQUAL("two", read_bytes(pair.client, 3).c_str());
  lingerd::take_from_sender(pair.rest);
}

TEST(Sender, leaves_alone_what_is_taken_back) {
  const Pair pair;
  CHECK_TRUE(pair.keep("the rest", now_ns() + 3'600'000'000'000));
  lingerd::take_from_sender(pair.rest);
  LONGS_EQUAL(8, pair.rest->bytes.left());
  LONGS_EQUAL(pair.filled, read_bytes(pair.client, pair.filled).size());
  CHECK_FALSE(readable(pair.client, 50));
}

TEST(Sender, a_flush_hurries_what_had_time) {
  const Pair pair;
  CHECK_TRUE(pair.keep("one", now_ns() + 3'600'000'000'000));
  CHECK_TRUE(pair.keep("two", now_ns()));
  const std::string received = read_bytes(pair.client, pair.filled + 6);
  STRCMP_EQUAL("onetwo", received.substr(pair.filled).c_str());
  lingerd::take_from_sender(pair.rest);
}

TEST(Sender, gives_up_on_a_client_that_takes_nothing) {
  const Pair pair(30'000'000);
  CHECK_TRUE(pair.keep("the rest", now_ns()));
  for (int i = 0; i < kGenerousMs / 10; ++i) {
    poll(nullptr, 0, 10);
    const std::scoped_lock lock(pair.rest->mutex);
    if (pair.rest->error != 0) break;
  }
  const std::scoped_lock lock(pair.rest->mutex);
  LONGS_EQUAL(ETIMEDOUT, pair.rest->error);
  CHECK_TRUE(pair.rest->bytes.empty());
}

TEST(Sender, finds_a_client_that_has_gone) {
  Pair pair;
  CHECK_TRUE(pair.keep("the rest", now_ns()));
  pair.client.reset();
  for (int i = 0; i < kGenerousMs / 10; ++i) {
    poll(nullptr, 0, 10);
    const std::scoped_lock lock(pair.rest->mutex);
    if (pair.rest->error != 0) break;
  }
  const std::scoped_lock lock(pair.rest->mutex);
  LONGS_EQUAL(EPIPE, pair.rest->error);
}

TEST(Sender, does_not_wait_for_a_worker_that_writes) {
  const Pair busy;
  const Pair other;
  const std::unique_lock lock(busy.rest->mutex);
  std::string bytes = "held";
  CHECK(busy.rest->bytes.append({bytes.data(), bytes.size()}) == RestBytes::Result::kDone);
  CHECK_TRUE(lingerd::let_sender_begin(busy.rest, now_ns()));
  LONGS_EQUAL(busy.filled, read_bytes(busy.client, busy.filled).size());
  CHECK_TRUE(other.keep("the rest", now_ns()));
  LONGS_EQUAL(other.filled + 8, read_bytes(other.client, other.filled + 8).size());
  CHECK_FALSE(readable(busy.client, 50));
}

// mpm_itk serves each connection in a process of its own, which has no thread but its own.
TEST(Sender, a_forked_process_gets_one_of_its_own) {
#if defined(__SANITIZE_THREAD__)
  return;  // it supports no threads that are started after a fork
#endif
  const Pair before;
  CHECK_TRUE(before.keep("parent's", now_ns()));
  // ASan of GCC 12 doesn't unlock its allocator in a child: the thread must not be in it.
  wait_until_sender_sleeps();
  const pid_t child = fork();
  if (child == 0) {
    if (before.rest->is_ours()) _exit(2);
    const Pair mine;
    if (!mine.keep("child's", now_ns())) _exit(3);
    _exit(read_bytes(mine.client, mine.filled + 7).size() == mine.filled + 7 ? 0 : 4);
  }
  int status = -1;
  waitpid(child, &status, 0);
  LONGS_EQUAL(0, status);
  LONGS_EQUAL(before.filled + 8, read_bytes(before.client, before.filled + 8).size());
  lingerd::take_from_sender(before.rest);
}

// The last one here is the first to run: as root, if that is what the tests run as.
TEST_GROUP(SenderOfRoot){};

TEST(SenderOfRoot, none_for_a_process_that_may_change_its_user) {
  const pid_t child = fork();
  if (child == 0) {
    const bool may_change_user = geteuid() == 0;
    const Pair pair;
    _exit(pair.keep("the rest", now_ns()) == may_change_user ? 1 : 0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  LONGS_EQUAL(0, status);
}
