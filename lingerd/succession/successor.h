// SPDX-License-Identifier: Apache-2.0
// Restart and upgrade without losing a socket (SIGUSR2). Two ways to a successor, which finds what
// it inherits through sd_listen_fds(3) (inheritance.h):
//
// - systemd's descriptor store keeps the parcel, and this process ends (store.h);
// - this process becomes the program that is now at its path (exec, here), under the same process
//   id.
//
// Until the successor serves, somebody keeps the parcel: the store, or a *keeper*, a child forked
// before the exec. If the successor ends or is silent for too long, systemd starts another one, or
// the keeper kills it and becomes the program that ran before, with all that there was.
//
// The keeper allows 15 s, and becomes the old program from a descriptor of the old binary. A
// label in the parcel counts attempts; the fourth lingerd lets go. The successor keeps its
// process id (supervisors, pidfiles), so the keeper is the one that changes it, and only after a
// failure: a supervisor then sees its process end, and what it starts is refused while the
// keeper's lingerd runs. As process 1 of a container, or under systemd without a store, the
// keeper ends with the successor: there nothing can be saved but by the check before. A
// successor that dies after it has said that it serves is a lingerd that dies.
#pragma once

#include <cstdint>
#include <string>

#include "base/errand.h"
#include "lingerd/succession/parcel.h"

namespace lingerd {

// The program that this is, and how it was called: what an upgrade puts at its path takes over.
struct Program {
  std::string path;
  char** arguments;
};
[[nodiscard]] Program this_program(char** arguments);

// Whether the program there runs and takes our configuration: `--check-config` in a child. Its
// answer is what it says is wrong, its status 0 if nothing is.
[[nodiscard]] Errand check_program(const Program& program, std::uint64_t now_ns);

// What a successor by exec gets. The descriptors stay the caller's.
struct Estate {
  const Parcel& parcel;
  int listener = -1;
  bool listener_is_systemds = false;
  int pidfile = -1;
  bool stored =
      false;  // systemd has the parcel as well, and would start another lingerd: no keeper
};
// Becomes the program; returns only if that fails, with what did in `problem` and nothing changed.
void become_successor(const Estate& estate, const Program& program, std::string& problem);

}  // namespace lingerd
