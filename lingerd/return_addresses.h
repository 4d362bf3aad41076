// SPDX-License-Identifier: Apache-2.0
// The ways back: httpd's private listeners, each known by a descriptor that names its socket
// (open(2) with O_PATH). connect(2) through /proc/self/fd needs no path that lingerd could see and
// no directory that it may pass: containers and RHEL's 0710 directories are no obstacle, and nobody
// who wasn't given such a descriptor can connect.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "lingerd/parked.h"
#include "lingerd/unique_fd.h"

namespace lingerd {

class ReturnAddresses {
 public:
  // Whether connecting through a descriptor works here (there is a /proc): asked once, at the
  // start.
  [[nodiscard]] static bool work_here();

  // Takes a descriptor that a peer sent, for one connection more. Nothing, and `fd` is still the
  // caller's, if it doesn't name a socket or there are too many.
  [[nodiscard]] std::optional<AddressId> adopt(UniqueFd& fd);
  void use_again(AddressId id) { ++entries_[id].users; }
  void release(AddressId id);

  // Connects, sends, and is done: no answer is waited for.
  [[nodiscard]] ParkOps::SendBack send(AddressId id, int socket, const Return& back) const;

  // Whether somebody still listens there; asking disturbs nobody.
  [[nodiscard]] bool alive(AddressId id) const;

  // Restart without loss: the descriptors in use, in the order of `ids`.
  [[nodiscard]] std::vector<AddressId> ids() const;
  [[nodiscard]] int descriptor(AddressId id) const { return entries_[id].fd.get(); }

 private:
  struct Entry {
    UniqueFd fd;
    dev_t device = 0;
    ino_t inode = 0;
    std::uint32_t users = 0;
  };
  std::vector<Entry> entries_;
};

}  // namespace lingerd
