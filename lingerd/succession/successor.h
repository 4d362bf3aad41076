// SPDX-License-Identifier: Apache-2.0
// Restart and upgrade without losing a socket (SIGUSR2). Two ways to a successor, which finds what
// it inherits through sd_listen_fds(3):
//
// - systemd's descriptor store keeps the parcel, and this process ends;
// - this process becomes the program that is now at its path (exec), under the same process id.
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
//
// What systemd's store has taken is proven: behind the parcel goes the end of a pair; if the
// other end hangs up, nothing holds it. A store with no room, or a proxy of the notify socket,
// says nothing else.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/errand.h"
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

// True when systemd's descriptor store has taken the parcel, proven: then this process may end.
[[nodiscard]] bool store_with_systemd(const Parcel& parcel, std::string& problem);
void empty_the_store();
[[nodiscard]] bool started_by_systemd();

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
