// SPDX-License-Identifier: Apache-2.0
// Which file systems are this machine's own: reading from those waits for a disk at most. A file
// server that is away, or a program behind FUSE, would hold up every client. Nothing here asks
// the file system itself, which may be the one that doesn't answer.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/unique_fd.h"

namespace lingerd {

// A line of /proc/self/mountinfo: proc_pid_mountinfo(5).
struct Mount {
  std::uint64_t device = 0;  // makedev(3)
  std::string point;
  std::string type;
  std::string options;  // of the file system, not of the mount
};
[[nodiscard]] std::vector<Mount> parse_mounts(std::string_view mountinfo);

class FileSystems {
 public:
  enum class Kind { kUnknown, kDisk, kMemory };

  FileSystems() { read_again(); }

  // Of the file system that a file is on; kUnknown: remote, or not known to be local.
  [[nodiscard]] Kind kind_of(int fd);

  // What names a socket's file and is asked nothing more than where that is. Nothing: it is none,
  // or connect(2) by that name might ask a program. That is so on file systems of which this
  // process knows that they are remote, and may be so on one that it doesn't see, which is another
  // namespace's: FUSE refuses all but its owner, but an overlay of it asks with its owner's rights,
  // and both can be mounted by anybody. Not with files of root's, nor of this process's user.
  struct Place {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
  };
  [[nodiscard]] std::optional<Place> socket_at(int path_fd);
  // The same with what is known already. Opens nothing, so the guard may ask.
  [[nodiscard]] std::optional<Place> known_socket_at(int path_fd) const;

 private:
  // Something was mounted or unmounted since the last look.
  [[nodiscard]] bool has_changed() const;
  void refresh();
  void read_again();
  void add(const Mount& mount, const std::vector<Mount>& all);
  [[nodiscard]] bool layers_are_local(const Mount& overlay) const;
  [[nodiscard]] Kind lookup(std::uint64_t device) const;

  UniqueFd mountinfo_;
  std::uint64_t next_look_ns_ = 0;
  std::unordered_map<std::uint64_t, Kind> kinds_;
  std::unordered_set<std::uint64_t> remote_;
  std::unordered_set<std::uint64_t> seen_;
};

// As this process sees them.
[[nodiscard]] FileSystems& file_systems();

}  // namespace lingerd
