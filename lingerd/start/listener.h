// SPDX-License-Identifier: Apache-2.0
// The listening socket: passed by systemd, or bound here. Everything that can be wrong with
// its path is said here, by throwing StartupError.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>

#include "base/unique_fd.h"
#include "lingerd/start/identity.h"
#include "lingerd/start/options.h"
#include "lingerd/succession/inheritance.h"

namespace lingerd {

class Listener {
 public:
  // systemd's socket, if systemd started us with one: then socket, socket-mode and socket-group are
  // the unit's, and the file isn't ours to remove. Or the one that an earlier lingerd had bound.
  // Otherwise binds options.socket.
  static Listener make(const Options& options, const Identities& ids, Inheritance& inheritance);

  Listener(Listener&& other) noexcept;
  Listener& operator=(Listener&&) = delete;
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener() { remove_file(); }

  // Removes the socket's file if it was bound here and is still that file. To be called while the
  // descriptor is open: then no new file can have the old one's inode number.
  void remove_file();

  // A successor listens there: the file stays.
  void leave_file() { bound_here_ = false; }
  // And is ours again, once the predecessor has let go.
  void own_file() { bound_here_ = !from_systemd_ && inode_ != 0; }

  // The descriptor, once: it goes to the loop, which closes it when it stops.
  [[nodiscard]] UniqueFd take() { return std::move(fd_); }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] bool from_systemd() const { return from_systemd_; }

 private:
  Listener(UniqueFd fd, std::string path, bool from_systemd);
  static Listener adopt(UniqueFd socket, bool from_systemd);
  static Listener bind(const Options& options, const Identities& ids);

  UniqueFd fd_;
  std::string path_;
  bool from_systemd_ = false;
  bool bound_here_ = false;
  dev_t device_ = 0;  // of the file bound here
  ino_t inode_ = 0;
};

}  // namespace lingerd
