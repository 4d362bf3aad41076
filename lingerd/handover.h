// SPDX-License-Identifier: Apache-2.0
// Restart and upgrade without losing a socket. SIGUSR2 packs everything into a parcel: the state in
// a memfd, and all descriptors in flight inside a pair of Unix sockets, 253 a message, so that tens
// of thousands travel as three. Under systemd the parcel goes to the descriptor store and the
// process ends; elsewhere the process becomes the new binary with exec, under the same process id.
// Either way the next lingerd finds it through sd_listen_fds(3).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "lingerd/unique_fd.h"

namespace lingerd {

struct Parcel {
  UniqueFd state;  // memfd, encode(CarriedState)
  UniqueFd in;     // the ends of the pair: descriptors come out of `out` in the order they went in.
  UniqueFd out;    // Both are kept: systemd drops a stored descriptor whose other end is closed.
};

// Packs; the descriptors stay the caller's as well. Throws std::system_error.
[[nodiscard]] Parcel pack(std::span<const std::byte> state, std::span<const int> descriptors);

// Takes the descriptors out again, in order, and the state; as much as there is.
struct Unpacked {
  std::vector<std::byte> state;
  std::vector<UniqueFd> descriptors;
};
[[nodiscard]] Unpacked unpack(Parcel parcel);

// What came with the start of this process: a listener and a parcel, either, or nothing. Throws
// StartupError if it is something else. Empties systemd's store, where the parcel lay.
struct Inheritance {
  UniqueFd listener;
  bool listener_is_ours = false;  // bound by an earlier lingerd, not by systemd
  UniqueFd parcel_state;
  UniqueFd parcel_in;
  UniqueFd parcel_out;

  [[nodiscard]] bool has_parcel() const { return parcel_state && parcel_in && parcel_out; }
  [[nodiscard]] Parcel take_parcel();
};
[[nodiscard]] Inheritance take_inheritance();

// True when systemd's descriptor store took the parcel: then the process may end. Otherwise (no
// systemd) becomes the program at `binary`, with the listener passed on too, and returns only if
// that fails. Both say what failed in `problem`.
[[nodiscard]] bool store_with_systemd(const Parcel& parcel, std::string& problem);
void become_successor(const Parcel& parcel, int listener, const std::string& binary,
                      char** arguments, std::string& problem);
[[nodiscard]] bool started_by_systemd();

// This program's path, to be asked for at the start: an upgrade puts another file there, and
// /proc/self/exe then goes on to mean the old one.
[[nodiscard]] std::string own_binary();

// True in a process that become_successor() made: it is in the background already, has its user,
// and the pidfile names it.
[[nodiscard]] bool is_successor();

}  // namespace lingerd
