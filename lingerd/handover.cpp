// SPDX-License-Identifier: Apache-2.0
#include "lingerd/handover.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <system_error>

#include "lingerd/startup_error.h"

namespace lingerd {
namespace {

constexpr std::size_t kMostPerMessage = 253;  // SCM_MAX_FD, unix(7)

// systemd puts all names into one environment string: keep them short.
constexpr std::string_view kStateName = "state";
constexpr std::string_view kInName = "in";
constexpr std::string_view kOutName = "out";
constexpr std::string_view kOwnListenerName = "own";
constexpr char kSuccessorVariable[] = "LINGERD_SUCCESSOR";

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::system_category(), what);
}

struct alignas(cmsghdr) Control {
  std::array<std::byte, CMSG_SPACE(kMostPerMessage * sizeof(int))> bytes{};
};

msghdr message_of(iovec& vector, Control& control, std::size_t control_size) {
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes.data();
  message.msg_controllen = control_size;
  return message;
}

void send_batch(int socket, std::span<const int> descriptors) {
  Control control;
  std::byte byte{};
  iovec vector{&byte, 1};
  const msghdr message = message_of(vector, control, CMSG_SPACE(descriptors.size_bytes()));
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
  std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
  if (sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) fail("packing descriptors");
}

// False: nothing more in there.
bool receive_batch(int socket, std::vector<UniqueFd>& out) {
  Control control;
  std::byte byte{};
  iovec vector{&byte, 1};
  msghdr message = message_of(vector, control, control.bytes.size());
  if (recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0) return false;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return true;
  std::array<int, kMostPerMessage> descriptors{};
  const std::size_t size = std::min(header->cmsg_len - CMSG_LEN(0), sizeof descriptors);
  std::memcpy(descriptors.data(), CMSG_DATA(header), size);
  for (std::size_t i = 0; i < size / sizeof(int); ++i) out.emplace_back(descriptors[i]);
  return true;
}

UniqueFd memfd_with(std::span<const std::byte> bytes) {
  UniqueFd fd(memfd_create("lingerd-state", MFD_CLOEXEC));
  if (!fd) fail("memfd_create");
  std::size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t n = pwrite(fd.get(), bytes.data() + written, bytes.size() - written,
                             static_cast<off_t>(written));
    if (n <= 0) fail("writing the state");
    written += static_cast<std::size_t>(n);
  }
  return fd;
}

std::vector<std::byte> read_all(int fd) {
  struct stat file {};
  if (fstat(fd, &file) != 0 || file.st_size < 0) return {};
  std::vector<std::byte> bytes(static_cast<std::size_t>(file.st_size));
  std::size_t got = 0;
  while (got < bytes.size()) {
    const ssize_t n = pread(fd, bytes.data() + got, bytes.size() - got, static_cast<off_t>(got));
    if (n <= 0) break;
    got += static_cast<std::size_t>(n);
  }
  bytes.resize(got);
  return bytes;
}

int store(int fd, std::string_view name) {
  const std::string text = "FDSTORE=1\nFDNAME=" + std::string(name);
  return sd_pid_notify_with_fds(0, 0, text.c_str(), &fd, 1);
}

void forget_parcel() {
  for (const std::string_view name : {kStateName, kInName, kOutName}) {
    sd_notify(0, ("FDSTOREREMOVE=1\nFDNAME=" + std::string(name)).c_str());
  }
}

}  // namespace

Parcel pack(std::span<const std::byte> state, std::span<const int> descriptors) {
  Parcel parcel;
  parcel.state = memfd_with(state);
  std::array<int, 2> pair{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) fail("socketpair");
  parcel.in.reset(pair[0]);
  parcel.out.reset(pair[1]);
  // One byte a message: as many as 277 fit into the default send buffer, 70,000 descriptors.
  // Whoever may raise the limit does, for those that hold more.
  const int most = 64 << 20;
  if (setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &most, sizeof most) != 0) {
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &most, sizeof most);
  }
  for (std::size_t at = 0; at < descriptors.size(); at += kMostPerMessage) {
    const std::size_t count = std::min(kMostPerMessage, descriptors.size() - at);
    send_batch(pair[0], descriptors.subspan(at, count));
  }
  return parcel;
}

Unpacked unpack(Parcel parcel) {
  Unpacked unpacked;
  unpacked.state = read_all(parcel.state.get());
  while (receive_batch(parcel.out.get(), unpacked.descriptors)) {
  }
  return unpacked;
}

Parcel Inheritance::take_parcel() {
  Parcel parcel;
  parcel.state = std::move(parcel_state);
  parcel.in = std::move(parcel_in);
  parcel.out = std::move(parcel_out);
  return parcel;
}

Inheritance take_inheritance() {
  Inheritance inheritance;
  char** names = nullptr;
  const int count = sd_listen_fds_with_names(1, &names);
  if (count < 0) {
    throw StartupError(ExitStatus::kNotConfigured, "systemd's descriptors can't be taken: " +
                                                       std::string(std::strerror(-count)));
  }
  int listeners = 0;
  for (int i = 0; i < count; ++i) {
    UniqueFd fd(SD_LISTEN_FDS_START + i);
    const std::string_view name = names[i];
    if (name == kStateName) {
      inheritance.parcel_state = std::move(fd);
    } else if (name == kInName) {
      inheritance.parcel_in = std::move(fd);
    } else if (name == kOutName) {
      inheritance.parcel_out = std::move(fd);
    } else {
      inheritance.listener_is_ours = name == kOwnListenerName;
      inheritance.listener = std::move(fd);
      ++listeners;
    }
    free(names[i]);
  }
  if (count > 0) free(names);
  if (listeners > 1) {
    throw StartupError(ExitStatus::kNotConfigured,
                       "systemd handed over " + std::to_string(listeners) +
                           " sockets; the unit must have one ListenSequentialPacket=");
  }
  if (inheritance.parcel_state || inheritance.parcel_in || inheritance.parcel_out) {
    forget_parcel();
  }
  return inheritance;
}

bool started_by_systemd() {
  return std::getenv("NOTIFY_SOCKET") != nullptr;
}

bool is_successor() {
  return std::getenv(kSuccessorVariable) != nullptr;
}

bool store_with_systemd(const Parcel& parcel, std::string& problem) {
  // Half a parcel, or one that we go on with after all, is not for the next lingerd.
  const auto fail_with = [&](const char* what, int result) {
    problem = std::string(what) + std::strerror(-result);
    forget_parcel();
    return false;
  };
  for (const auto& [fd, name] :
       {std::pair{parcel.state.get(), kStateName}, std::pair{parcel.in.get(), kInName},
        std::pair{parcel.out.get(), kOutName}}) {
    if (const int result = store(fd, name); result <= 0) {
      return fail_with("systemd's descriptor store: ", result);
    }
  }
  // systemd must have read them before this process is gone.
  constexpr std::uint64_t kBarrierUs = 5'000'000;
  if (const int result = sd_notify_barrier(0, kBarrierUs); result < 0) {
    return fail_with("systemd doesn't answer: ", result);
  }
  return true;
}

namespace {

// Whether the program there runs and takes our configuration: if it doesn't, exec would lose
// everything.
bool checks_out(const std::string& binary, char** arguments, std::string& problem) {
  std::vector<char*> with_check;
  for (char** argument = arguments; *argument != nullptr; ++argument) {
    with_check.push_back(*argument);
  }
  std::string check = "--check-config";
  with_check.push_back(check.data());
  with_check.push_back(nullptr);
  pid_t child = 0;
  posix_spawn_file_actions_t quiet;  // it says that all is fine; what isn't goes to our log
  posix_spawn_file_actions_init(&quiet);
  posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  int status = posix_spawn(&child, binary.c_str(), &quiet, nullptr, with_check.data(), environ);
  posix_spawn_file_actions_destroy(&quiet);
  if (status != 0) {
    problem = binary + ": " + std::strerror(status);
    return false;
  }
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
  problem = binary + " --check-config fails";
  return false;
}

}  // namespace

std::string own_binary() {
  std::array<char, 4096> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  return length > 0 ? std::string(path.data(), static_cast<std::size_t>(length)) : std::string();
}

void become_successor(const Parcel& parcel, int listener, const std::string& binary,
                      char** arguments, std::string& problem) {
  if (!checks_out(binary, arguments, problem)) return;
  const std::array<int, 4> passed{parcel.state.get(), parcel.in.get(), parcel.out.get(), listener};
  // As systemd would: numbered from 3. Via high numbers, because some are in each other's way.
  std::array<UniqueFd, 4> high;
  for (std::size_t i = 0; i < passed.size(); ++i) {
    high[i].reset(fcntl(passed[i], F_DUPFD_CLOEXEC, SD_LISTEN_FDS_START + 64));
    if (!high[i]) {
      problem = std::strerror(errno);
      return;
    }
  }
  const std::string names = std::string(kStateName) + ":" + std::string(kInName) + ":" +
                            std::string(kOutName) + ":" + std::string(kOwnListenerName);
  setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
  setenv("LISTEN_FDS", std::to_string(passed.size()).c_str(), 1);
  setenv("LISTEN_FDNAMES", names.c_str(), 1);
  setenv(kSuccessorVariable, "1", 1);
  // The four numbers belong to something of this process: kept aside, in case exec fails.
  std::array<UniqueFd, 4> aside;
  for (std::size_t i = 0; i < passed.size(); ++i) {
    const int target = SD_LISTEN_FDS_START + static_cast<int>(i);
    aside[i].reset(fcntl(target, F_DUPFD_CLOEXEC, SD_LISTEN_FDS_START + 64));
    dup2(high[i].get(), target);  // without FD_CLOEXEC
  }
  execv(binary.c_str(), arguments);
  problem = binary + ": " + std::strerror(errno);
  for (std::size_t i = 0; i < passed.size(); ++i) {
    const int target = SD_LISTEN_FDS_START + static_cast<int>(i);
    if (aside[i]) {
      dup3(aside[i].get(), target, O_CLOEXEC);
    } else {
      close(target);
    }
  }
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", kSuccessorVariable}) {
    unsetenv(name);
  }
}

}  // namespace lingerd
