// SPDX-License-Identifier: Apache-2.0
// What an earlier lingerd, or systemd, has left to this one at its start (sd_listen_fds(3)).
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/unique_fd.h"
#include "lingerd/succession/parcel.h"

namespace lingerd {

// What came with the start of this process; each may be missing. Throws StartupError if it is
// something else.
struct Inheritance {
  bool by_exec = false;     // it is in the background already, and has its user
  std::string rolled_back;  // not empty: a keeper has become this process, because of that
  UniqueFd listener;
  bool listener_is_ours = false;  // bound by an earlier lingerd, not by systemd
  UniqueFd pidfile;               // open, and locked
  UniqueFd keeper;                // the line to it
  pid_t keeper_pid = 0;
  std::optional<Parcel> parcel;
};
[[nodiscard]] Inheritance take_inheritance();

// To be called once everything is there and nothing has been touched: from then on all is this
// process's alone. The keeper lets go, systemd's store is emptied.
void accept_inheritance(Inheritance& inheritance);

}  // namespace lingerd
