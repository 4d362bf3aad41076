// SPDX-License-Identifier: Apache-2.0
// `lingerd --takeover`: a handover between two processes, both of which run until it is done. The
// successor listens at <socket>.takeover and sends the running lingerd SIGUSR2; that one finds it
// there, sends it the parcel and its listener, and ends when the successor says that it serves. If
// it never says so, the predecessor goes on as if nothing had been. Nothing of this passes through
// the socket that httpd's children reach.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "lingerd/handover.h"
#include "lingerd/unique_fd.h"

namespace lingerd {

// The lingerd that is to be followed, from its successor's side.
class Predecessor {
 public:
  // Fills `out` with all that the lingerd at `socket_path` has; nothing if none runs there. Throws
  // StartupError if one runs that doesn't hand over.
  [[nodiscard]] static std::optional<Predecessor> ask(const std::string& socket_path,
                                                      Inheritance& out);
  // From here on everything is ours alone. Throws StartupError if the predecessor, tired of
  // waiting, has gone on.
  void dismiss();

 private:
  explicit Predecessor(UniqueFd line) : line_(std::move(line)) {}
  UniqueFd line_;
};

// A lingerd that waits to take over, from its predecessor's side: a connection to it, if there is
// one that root or this process's user has started.
[[nodiscard]] UniqueFd successor_at(const std::string& socket_path);

// True when it serves: then this process must touch nothing more of what it has handed over.
[[nodiscard]] bool give(const UniqueFd& successor, const Parcel& parcel, int listener,
                        bool from_systemd, std::string& problem);

}  // namespace lingerd
