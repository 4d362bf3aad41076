// SPDX-License-Identifier: Apache-2.0
// --daemon and --pidfile, for hosts without systemd.
#pragma once

#include <sys/types.h>

#include <string>

#include "lingerd/startup_error.h"
#include "lingerd/unique_fd.h"

namespace lingerd {

// The line to the shell that started a daemon: it gets the shell prompt back, and the exit status,
// once lingerd is ready or has failed. An init script needs that to be true.
class Readiness {
 public:
  Readiness() = default;  // in the foreground: nobody waits, nothing to say
  explicit Readiness(UniqueFd pipe) : pipe_(std::move(pipe)) {}

  void ready();
  void failed(ExitStatus status, const std::string& why);

 private:
  UniqueFd pipe_;
};

// Returns in the daemon only: a session of its own without a terminal, in the root directory. The
// process that called exits once the daemon has used what this returns, or has died.
[[nodiscard]] Readiness daemonize();

// A file with our process id, locked while we live: who finds it unlocked finds it stale. Throws
// StartupError, also if a living lingerd holds it.
class PidFile {
 public:
  explicit PidFile(std::string path);
  ~PidFile();  // removes the file, or empties it where the directory is root's and we aren't
  // It goes to a successor, who writes its own process id there.
  void leave() { fd_.reset(); }
  [[nodiscard]] const std::string& path() const { return path_; }
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;

 private:
  [[nodiscard]] bool is_still_there() const;
  std::string path_;
  UniqueFd fd_;
};

}  // namespace lingerd
