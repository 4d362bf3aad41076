// SPDX-License-Identifier: Apache-2.0
#include "lingerd/succession/store.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/notify.h"
#include "base/unique_fd.h"
#include "lingerd/succession/passed.h"

namespace lingerd {
namespace {

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

}  // namespace lingerd
