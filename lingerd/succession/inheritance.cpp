// SPDX-License-Identifier: Apache-2.0
#include "lingerd/succession/inheritance.h"

#include <fcntl.h>
#include <systemd/sd-daemon.h>

#include <cstdlib>
#include <utility>

#include "base/startup_error.h"
#include "base/unix_limits.h"
#include "lingerd/succession/keeper.h"
#include "lingerd/succession/passed.h"
#include "lingerd/succession/store.h"

namespace lingerd {
namespace {

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

// The low numbers are for what errands reserve, all of them: one that became free later would be
// the next peer's.
UniqueFd out_of_the_way(int fd) {
  UniqueFd low(fd);
  UniqueFd moved(fcntl(fd, F_DUPFD_CLOEXEC, static_cast<int>(kReservedForErrands)));
  if (moved) return moved;
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  return low;
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
    UniqueFd fd = out_of_the_way(SD_LISTEN_FDS_START + i);
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
                       "systemd passed " + std::to_string(listeners) +
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

}  // namespace lingerd
