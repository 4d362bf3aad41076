// SPDX-License-Identifier: Apache-2.0
#include "lingerd/succession/successor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/notify.h"
#include "base/startup_error.h"
#include "lingerd/succession/keeper.h"

namespace lingerd {
namespace {

// systemd puts all names into one environment string: keep them short.
constexpr std::string_view kInName = "in";
constexpr std::string_view kOutName = "out";
constexpr std::string_view kProbeName = "probe";
constexpr std::string_view kOwnListenerName = "own";
constexpr std::string_view kSystemdsListenerName = "theirs";
constexpr std::string_view kPidFileName = "pid";
constexpr std::string_view kKeeperName = "keeper";

// From one lingerd to the next, by exec.
constexpr char kSuccessorVariable[] =
    "LINGERD_SUCCESSOR";                                // 1, or why a keeper became this process
constexpr char kProgramVariable[] = "LINGERD_PROGRAM";  // its path: /proc/self/exe may be gone
constexpr char kKeeperVariable[] = "LINGERD_KEEPER";    // the keeper's process id

std::string take_variable(const char* name) {
  const char* value = std::getenv(name);
  std::string text = value == nullptr ? "" : value;
  unsetenv(name);
  return text;
}

// True: it was one of the names that a parcel has.
bool sort_in(const std::string& name, UniqueFd& fd, Parcel& parcel, Inheritance& out) {
  if (name == kInName) {
    parcel.in = std::move(fd);
  } else if (name == kOutName) {
    parcel.out = std::move(fd);
  } else if (name == kPidFileName) {
    out.pidfile = std::move(fd);
  } else if (name == kKeeperName) {
    out.keeper = std::move(fd);
  } else if (name == kProbeName) {
    fd.reset();
  } else {
    return false;
  }
  return true;
}

int store(int fd, std::string_view name) {
  const std::string text = "FDSTORE=1\nFDNAME=" + std::string(name);
  return notify_manager(text, fd);
}

// As sd_notify_barrier(3): the manager closes what comes with it when it has read all that came
// before. 0, or an errno.
int wait_until_read() {
  constexpr int kBarrierMs = 5'000;
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return errno;
  const UniqueFd closed(ends[0]);
  UniqueFd given(ends[1]);
  if (const int error = notify_manager("BARRIER=1", given.get()); error != 0) return error;
  given.reset();
  pollfd wait{closed.get(), 0, 0};
  const int ready = poll(&wait, 1, kBarrierMs);
  if (ready > 0) return 0;
  return ready == 0 ? ETIMEDOUT : errno;
}

// The other end of what was given away is closed: nobody has it.
bool is_hung_up(int fd) {
  pollfd now{fd, POLLIN, 0};
  return poll(&now, 1, 0) > 0 && (now.revents & POLLHUP) != 0;
}

}  // namespace

Inheritance take_inheritance() {
  Inheritance inheritance;
  const std::string succession = take_variable(kSuccessorVariable);
  inheritance.by_exec = !succession.empty();
  if (succession != "1") inheritance.rolled_back = succession;
  inheritance.keeper_pid = std::atoi(take_variable(kKeeperVariable).c_str());
  Parcel parcel;
  int listeners = 0;
  char** names = nullptr;
  const int count = sd_listen_fds_with_names(1, &names);
  for (int i = 0; i < count; ++i) {
    UniqueFd fd(SD_LISTEN_FDS_START + i);
    fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
    const std::string name = names[i];
    free(names[i]);
    if (sort_in(name, fd, parcel, inheritance)) continue;
    inheritance.listener_is_ours = name == kOwnListenerName;
    inheritance.listener = std::move(fd);
    ++listeners;
  }
  if (count > 0) free(names);
  if (listeners > 1) {
    throw StartupError(ExitStatus::kNotConfigured,
                       "systemd handed over " + std::to_string(listeners) +
                           " sockets; the unit must have one ListenSequentialPacket=");
  }
  if (parcel.in && parcel.out) inheritance.parcel = std::move(parcel);
  return inheritance;
}

void accept_inheritance(Inheritance& inheritance) {
  Keeper::dismiss(std::move(inheritance.keeper), inheritance.keeper_pid);
  if (!inheritance.parcel) return;
  empty_the_store();
  inheritance.parcel.reset();
}

bool started_by_systemd() {
  return std::getenv("NOTIFY_SOCKET") != nullptr;
}

void empty_the_store() {
  for (const std::string_view name : {kInName, kOutName, kProbeName}) {
    if (notify_manager("FDSTOREREMOVE=1\nFDNAME=" + std::string(name)) != 0) return;
  }
}

// That a message was sent says nothing: systemd closes what its store has no room for, and so does
// a program that passes on what systemd is told. So one more descriptor goes behind the parcel: the
// end of a pair whose other end tells whether anybody still holds it.
bool store_with_systemd(const Parcel& parcel, std::string& problem) {
  // Half a parcel, or one that we go on with after all, is not for the next lingerd.
  const auto fail_with = [&](const std::string& what) {
    problem = "systemd's descriptor store: " + what;
    empty_the_store();
    return false;
  };
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return fail_with(std::strerror(errno));
  }
  const UniqueFd tells(ends[0]);
  UniqueFd probe(ends[1]);
  for (const auto& [fd, name] :
       {std::pair{parcel.in.get(), kInName}, std::pair{parcel.out.get(), kOutName},
        std::pair{probe.get(), kProbeName}}) {
    if (const int error = store(fd, name); error != 0) return fail_with(std::strerror(error));
  }
  probe.reset();
  // systemd must have read them before this process is gone.
  if (const int error = wait_until_read(); error != 0) {
    return fail_with(std::string("no answer: ") + std::strerror(error));
  }
  if (is_hung_up(tells.get())) {
    return fail_with("it takes nothing; the unit needs FileDescriptorStoreMax=, 16 as shipped");
  }
  return true;
}

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
