// SPDX-License-Identifier: Apache-2.0
#include "lingerd/succession/successor.h"

#include <fcntl.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "lingerd/succession/keeper.h"
#include "lingerd/succession/passed.h"

namespace lingerd {

Program this_program(char** arguments) {
  Program program{take_variable(kProgramVariable), arguments};
  if (!program.path.empty()) return program;
  std::array<char, PATH_MAX> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  if (length > 0) program.path.assign(path.data(), static_cast<std::size_t>(length));
  return program;
}

Errand check_program(const Program& program, std::uint64_t now_ns) {
  return Errand::start(now_ns, [&program](int out) {
    std::vector<char*> with_check;
    for (char** argument = program.arguments; *argument != nullptr; ++argument) {
      with_check.push_back(*argument);
    }
    std::string check = "--check-config";
    with_check.push_back(check.data());
    with_check.push_back(nullptr);
    // It says that all is fine; what isn't is the answer.
    const UniqueFd null(open("/dev/null", O_WRONLY | O_CLOEXEC));
    dup2(null.get(), STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    execv(program.path.c_str(), with_check.data());
    const std::string why = std::strerror(errno);
    [[maybe_unused]] const auto ignored = write(out, why.data(), why.size());
    return 127;
  });
}

namespace {

struct Named {
  int fd;
  std::string_view name;
};

// LISTEN_FDS and its like, as systemd would set them, for the process that this is.
void announce(const std::vector<Named>& passed, const std::string& succession,
              const std::string& path, pid_t keeper) {
  std::string names;
  for (const Named& each : passed) names += (names.empty() ? "" : ":") + std::string(each.name);
  setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
  setenv("LISTEN_FDS", std::to_string(passed.size()).c_str(), 1);
  setenv("LISTEN_FDNAMES", names.c_str(), 1);
  setenv(kSuccessorVariable, succession.c_str(), 1);
  setenv(kProgramVariable, path.c_str(), 1);
  setenv(kKeeperVariable, std::to_string(keeper).c_str(), 1);
}

void announce_nothing() {
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", kSuccessorVariable,
                           kProgramVariable, kKeeperVariable}) {
    unsetenv(name);
  }
}

// The numbers from 3 on while it lives, for what is passed; what they were before, afterwards.
class Numbers {
 public:
  // False: no descriptors left.
  [[nodiscard]] bool take(const std::vector<Named>& passed) {
    const int beyond = SD_LISTEN_FDS_START + static_cast<int>(passed.size());
    // Via high numbers, because some are in each other's way.
    std::vector<UniqueFd> high;
    for (const Named& each : passed) {
      high.emplace_back(fcntl(each.fd, F_DUPFD_CLOEXEC, beyond));
      if (!high.back()) return false;
    }
    for (int target = SD_LISTEN_FDS_START; target < beyond; ++target) {
      aside_.emplace_back(fcntl(target, F_DUPFD_CLOEXEC, beyond));
      if (!aside_.back() && errno != EBADF) return false;
    }
    for (std::size_t i = 0; i < passed.size(); ++i) {
      dup2(high[i].get(), SD_LISTEN_FDS_START + static_cast<int>(i));  // without FD_CLOEXEC
      ++taken_;
    }
    return true;
  }
  Numbers() = default;
  ~Numbers() {
    for (int i = 0; i < taken_; ++i) {
      const UniqueFd& before = aside_[static_cast<std::size_t>(i)];
      if (before) {
        dup3(before.get(), SD_LISTEN_FDS_START + i, O_CLOEXEC);
      } else {
        close(SD_LISTEN_FDS_START + i);
      }
    }
  }
  Numbers(const Numbers&) = delete;
  Numbers& operator=(const Numbers&) = delete;

 private:
  std::vector<UniqueFd> aside_;
  int taken_ = 0;
};

std::vector<Named> passed_on(const Estate& estate) {
  std::vector<Named> passed{
      {estate.parcel.in.get(), kInName},
      {estate.parcel.out.get(), kOutName},
      {estate.listener, estate.listener_is_systemds ? kSystemdsListenerName : kOwnListenerName}};
  if (estate.pidfile >= 0) passed.push_back({estate.pidfile, kPidFileName});
  return passed;
}

// In the keeper: becomes the program that this process already runs, whatever lies at its path now.
void become_what_ran_before(const Estate& estate, const UniqueFd& running, const Program& program,
                            const std::string& why) {
  const std::vector<Named> passed = passed_on(estate);
  Numbers numbers;
  if (!numbers.take(passed)) return;
  const int beyond = SD_LISTEN_FDS_START + static_cast<int>(passed.size());
  const UniqueFd binary(fcntl(running.get(), F_DUPFD_CLOEXEC, beyond));
  announce(passed, why, program.path, 0);
  fexecve(binary.get(), program.arguments, environ);
}

}  // namespace

void become_successor(const Estate& estate, const Program& program, std::string& problem) {
  const UniqueFd running(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  std::vector<Named> passed = passed_on(estate);
  std::optional<Keeper> keeper;
  if (!estate.stored) {
    std::vector<int> keeps{running.get()};
    for (const Named& each : passed) keeps.push_back(each.fd);
    try {
      keeper.emplace(std::move(keeps), [&](const std::string& why) {
        become_what_ran_before(estate, running, program, why);
      });
    } catch (const std::system_error& error) {
      problem = error.what();
      return;
    }
    passed.push_back({keeper->line(), kKeeperName});
  }
  Numbers numbers;
  if (numbers.take(passed)) {
    announce(passed, "1", program.path, keeper ? keeper->pid() : 0);
    execv(program.path.c_str(), program.arguments);
  }
  problem = program.path + ": " + std::strerror(errno);
  announce_nothing();
}

}  // namespace lingerd
