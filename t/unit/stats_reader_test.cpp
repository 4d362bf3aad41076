// SPDX-License-Identifier: Apache-2.0
// The reader against files in every state that a lingerd, its death, or somebody else may leave.
#include "contract/stats_reader.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/unique_fd.h"
#include "contract/counters.h"
#include "contract/stats_page.h"
#include "report/report.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;  // NOLINT: a test

namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kNow = 100'000 * kSecond;

}  // namespace

TEST_GROUP(StatsReader) {
  std::string directory;
  std::string path;
  UniqueFd writer;

  void setup() override {
    char name[] = "/tmp/stats_reader_test.XXXXXX";
    CHECK_TRUE(mkdtemp(name) != nullptr);
    directory = name;
    path = directory + "/s.stats";
  }
  void teardown() override {
    writer.reset();
    unlink(path.c_str());
    rmdir(directory.c_str());
  }

  static StatsPage page_at(std::uint64_t heartbeat_ns) {
    StatsPage page;
    DaemonCounters counters;
    counters[DaemonCounter::kQueue] = 7;
    StatsWriter(page, heartbeat_ns - 60 * kSecond, 4711).publish({heartbeat_ns, 0, &counters});
    return page;
  }

  // A lock is of the open file description, so this one stands for another process's.
  void write(const void* data, std::size_t size, bool locked) {
    writer.reset(open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    CHECK_EQUAL(static_cast<ssize_t>(size), ::write(writer.get(), data, size));
    struct flock lock {};
    lock.l_type = F_WRLCK;
    if (locked) CHECK_EQUAL(0, fcntl(writer.get(), F_OFD_SETLK, &lock));
  }

  DaemonStatus read() const {
    return read_stats(path.c_str(), kNow);
  }
};

TEST(StatsReader, alive_and_fresh_is_up) {
  const StatsPage page = page_at(kNow - kSecond);
  write(&page, sizeof page, true);
  const DaemonStatus status = read();
  CHECK_TRUE(Liveness::kUp == status.liveness);
  CHECK_EQUAL(7U, status.snapshot.counters[DaemonCounter::kQueue]);
  CHECK_EQUAL(4711U, status.snapshot.pid);
  CHECK_TRUE(status.problem.empty());
}

// systemd listens while lingerd isn't running: nothing is wrong yet.
TEST(StatsReader, without_a_page_the_socket_is_looked_for) {
  CHECK_TRUE(read().problem.starts_with("there is no " + path));
  const std::string socket_path = directory + "/s";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socket_path.copy(address.sun_path, sizeof address.sun_path - 1);
  const UniqueFd listener(socket(AF_UNIX, SOCK_SEQPACKET, 0));
  CHECK_EQUAL(0, bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address));
  STRCMP_CONTAINS(".stats: not running, but its socket is there", read().problem.c_str());
  unlink(socket_path.c_str());
}

TEST(StatsReader, alive_and_silent_is_busy) {
  const StatsPage page = page_at(kNow - 10 * kSecond);
  write(&page, sizeof page, true);
  CHECK_TRUE(Liveness::kBusy == read().liveness);
}

// However fresh the page is: its writer is dead.
TEST(StatsReader, without_the_writers_lock_it_is_down) {
  const StatsPage page = page_at(kNow - 2 * kSecond);
  write(&page, sizeof page, false);
  const DaemonStatus status = read();
  CHECK_TRUE(Liveness::kDown == status.liveness);
  CHECK_TRUE(StatsProblem::kNoWriter == status.why);
  CHECK_TRUE("gone for 2.0 s: stopped or killed" == status.problem);
  CHECK_EQUAL(7U, status.snapshot.counters[DaemonCounter::kQueue]);
}

TEST(StatsReader, no_file) {
  const DaemonStatus status = read();
  CHECK_TRUE(Liveness::kDown == status.liveness);
  CHECK_TRUE(StatsProblem::kNoPage == status.why);
  STRCMP_CONTAINS(path.c_str(), status.problem.c_str());
}

// Root reads everything, so a child that isn't root looks.
TEST(StatsReader, no_permission) {
  const StatsPage page = page_at(kNow);
  write(&page, sizeof page, true);
  CHECK_EQUAL(0, chmod(path.c_str(), 0));
  const pid_t child = fork();
  if (child == 0) {
    if (geteuid() == 0 && setuid(65534) != 0) _exit(2);
    _exit(read().why == StatsProblem::kDenied ? 0 : 1);
  }
  int status = -1;
  CHECK_EQUAL(child, waitpid(child, &status, 0));
  CHECK_EQUAL(0, status);
}

// Opening a FIFO that nobody writes to would wait for ever.
TEST(StatsReader, a_fifo_does_not_block) {
  CHECK_EQUAL(0, mkfifo(path.c_str(), 0644));
  CHECK_TRUE(StatsProblem::kNotAPage == read().why);
}

TEST(StatsReader, a_directory_is_not_a_page) {
  CHECK_TRUE(StatsProblem::kNotAPage == read_stats(directory.c_str(), kNow).why);
}

TEST(StatsReader, other_content_is_not_a_page) {
  const std::string text(8192, 'x');
  write(text.data(), text.size(), true);
  CHECK_TRUE(StatsProblem::kNotAPage == read().why);
  write("", 0, true);
  CHECK_TRUE(StatsProblem::kNotAPage == read().why);
}

TEST(StatsReader, a_truncated_page_is_not_a_page) {
  const StatsPage page = page_at(kNow);
  for (const std::size_t size : {std::size_t{9}, std::size_t{16}, sizeof page - 1}) {
    write(&page, size, true);
    CHECK_TRUE(Liveness::kDown == read().liveness);
    CHECK_TRUE(StatsProblem::kNotAPage == read().why);
  }
}

TEST(StatsReader, another_version_is_named) {
  StatsPage page = page_at(kNow);
  page.version = kStatsVersion + 1;
  write(&page, sizeof page, true);
  const DaemonStatus status = read();
  CHECK_TRUE(StatsProblem::kOtherVersion == status.why);
  STRCMP_CONTAINS(("version " + std::to_string(kStatsVersion + 1)).c_str(), status.problem.c_str());
}

// Stopped in the middle of a write: busy, with the numbers that are there.
TEST(StatsReader, a_torn_page_of_a_live_writer_is_used) {
  StatsPage page = page_at(kNow - 10 * kSecond);
  page.sequence |= 1U;
  write(&page, sizeof page, true);
  const DaemonStatus status = read();
  CHECK_TRUE(Liveness::kBusy == status.liveness);
  CHECK_EQUAL(7U, status.snapshot.counters[DaemonCounter::kQueue]);
}

TEST(StatsReader, a_torn_page_of_a_dead_writer_is_not) {
  StatsPage page = page_at(kNow - kSecond);
  page.sequence |= 1U;
  write(&page, sizeof page, false);
  const DaemonStatus status = read();
  CHECK_TRUE(Liveness::kDown == status.liveness);
  CHECK_EQUAL(0U, status.snapshot.heartbeat_ns);
}
