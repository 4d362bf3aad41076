// SPDX-License-Identifier: Apache-2.0
#include "base/errand.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "base/unix_limits.h"

// Last: it redefines new.
#include <CppUTest/TestHarness.h>

namespace {

using lingerd::Errand;
using lingerd::kLeastToReserveFrom;
using lingerd::kReservedForErrands;
using lingerd::UniqueFd;

std::string open_descriptors() {
  std::string numbers;
  DIR* directory = opendir("/proc/self/fd");
  while (const dirent* entry = readdir(directory)) {
    const int fd = std::atoi(entry->d_name);
    if (entry->d_name[0] != '.' && fd != dirfd(directory)) numbers += std::to_string(fd) + " ";
  }
  closedir(directory);
  return numbers;
}

Errand::Answer answer_of(const std::function<int(int)>& work) {
  Errand errand = Errand::start(lingerd::monotonic_ns(), work);
  for (;;) {
    if (auto answer = errand.collect(lingerd::monotonic_ns())) return *answer;
    pollfd waiting{errand.fd(), POLLIN, 0};
    poll(&waiting, waiting.fd < 0 ? 0 : 1, 20);
  }
}

int say(int out, const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t n = write(out, text.data() + done, text.size() - done);
    if (n < 0) return 1;
    done += static_cast<std::size_t>(n);
  }
  return 0;
}

void check_answers() {
  const Errand::Answer quick = answer_of([](int out) { return say(out, "done") + 7; });
  LONGS_EQUAL(7, quick.status);
  STRCMP_EQUAL("done", quick.text.c_str());
  const std::string much(300'000, 'x');
  const Errand::Answer long_one = answer_of([&](int out) { return say(out, much); });
  CHECK(much == long_one.text);
  const Errand::Answer silent = answer_of([](int) { return 3; });
  LONGS_EQUAL(3, silent.status);
  STRCMP_EQUAL("", silent.text.c_str());
  const Errand::Answer thrown = answer_of([](int) -> int { throw std::exception(); });
  LONGS_EQUAL(EXIT_FAILURE, thrown.status);
  const Errand::Answer killed = answer_of([](int) -> int { abort(); });
  LONGS_EQUAL(Errand::kKilled, killed.status);
}

// What a peer has sent since must not be closed: only a table without it doesn't wait for it.
void check_that_nothing_later_is_there(UniqueFd inherited) {
  const int freed = inherited.get();
  inherited.reset();
  std::vector<UniqueFd> later;
  for (int i = 0; i < 200; ++i) later.emplace_back(open("/dev/null", O_RDONLY));
  LONGS_EQUAL(freed, later.front().get());
  const std::string before = open_descriptors();
  const Errand::Answer answer = answer_of([](int out) { return say(out, open_descriptors()); });
  STRCMP_EQUAL("0 1 2 3 ", answer.text.c_str());
  STRCMP_EQUAL(before.c_str(), open_descriptors().c_str());
}

}  // namespace

TEST_GROUP(Errand){};

// One test: a reserve is for all of a process's life.
TEST(Errand, answers_without_a_reserve_and_with_one) {
  Errand::reserve(kLeastToReserveFrom - 1);
  CHECK_FALSE(Errand::closes_nothing());
  check_answers();

  // A shell has left something open at the last of the low numbers (<(...) is bash's 63), and what
  // is inherited lies behind it for a while.
  UniqueFd inherited(open("/dev/null", O_RDONLY));
  const int last = static_cast<int>(kReservedForErrands) - 1;
  LONGS_EQUAL(last, dup2(inherited.get(), last));
  inherited.reset(fcntl(inherited.get(), F_DUPFD, last + 1));
  Errand::reserve(kLeastToReserveFrom);
  LONGS_EQUAL(last + 2, UniqueFd(open("/dev/null", O_RDONLY)).get());
  CHECK_TRUE(Errand::closes_nothing());
  check_answers();
  check_that_nothing_later_is_there(std::move(inherited));
}
