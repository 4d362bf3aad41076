// SPDX-License-Identifier: Apache-2.0
// --daemon and --pidfile, for hosts without systemd.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>

#include "base/startup_error.h"
#include "base/unique_fd.h"

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

// A file with our process id, locked while we live: found unlocked, it is stale.
class PidFile {
 public:
  // `inherited`: a predecessor's, open and locked; used if it is the file at `path`. Throws
  // StartupError, also if a living lingerd holds the file.
  PidFile(std::string path, UniqueFd inherited);
  ~PidFile();  // removes the file, or empties it where the directory is root's and we aren't
  // Writes the process id; again as soon as a successor serves: init scripts wait for that.
  void write();
  [[nodiscard]] int fd() const { return fd_.get(); }
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;

 private:
  [[nodiscard]] bool is_still_there() const;
  std::string path_;
  UniqueFd fd_;
};

}  // namespace lingerd
