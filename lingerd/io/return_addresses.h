// SPDX-License-Identifier: Apache-2.0
// The ways back: httpd's private listeners, each known by a descriptor that names its socket
// (open(2) with O_PATH). connect(2) through /proc/self/fd needs no path that lingerd could see and
// no directory that it may pass: containers and RHEL's 0710 directories are no obstacle, and no
// process that wasn't given such a descriptor can connect.
//
// A way back is tried first. A child announces it once for each connection to lingerd, which
// connects there and answers: permissions and security modules may say no, and a connection that
// is parked already would be lost. The probe is a connection of the real kind, because security
// modules are asked last; httpd takes it and finds it empty.
//
// A dead listener is found without disturbing a living one: connect(2) with a datagram socket
// says ECONNREFUSED or EPROTOTYPE. Once a second, for each httpd: its idle connections end when
// it does.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/unique_fd.h"
#include "contract/record.h"
#include "lingerd/core/parked.h"
#include "lingerd/core/return_lines.h"
#include "lingerd/core/shares.h"

namespace lingerd {

class ReturnAddresses {
 public:
  // Whether connecting through a descriptor works here (there is a /proc): asked at each
  // greeting.
  [[nodiscard]] static bool work_here();

  enum class Verdict {
    kGood,
    kNoName,   // it doesn't name a socket
    kTooMany,  // kMostAddresses, and this user has its share of them
    kDenied,   // a policy or permissions keep lingerd from connecting
  };
  // In words, for a log line about what came with it.
  [[nodiscard]] static const char* describe(Verdict verdict);
  struct Adopted {
    Verdict verdict = Verdict::kNoName;
    AddressId id = 0;
  };

  // Takes a descriptor that a peer of `owner`'s sent, to be held once more: by a connection, or by
  // the peer that has announced it. One that is new is tried first. But for kGood `fd` is still the
  // caller's. Where as many are known as there may be, the owner that holds most gives one up, if
  // that is more than this one would have: withdrawn().
  [[nodiscard]] Adopted adopt(UniqueFd& fd, Shares::User owner);
  void hold(AddressId id) { ++entries_[id].holders; }
  void release(AddressId id);

  // Connects, sends, and is done: no answer is waited for. kGone and denied(): it was allowed, and
  // is no more.
  [[nodiscard]] ParkOps::SendBack send(AddressId id, int socket, const Return& back);
  // The same by the way back's descriptor, for a caller that counts nothing.
  [[nodiscard]] static ParkOps::SendBack send_by(int way, int socket, const Return& back);
  // In two steps: connected, or nothing; and the rest.
  [[nodiscard]] static UniqueFd connect_by(int way);
  [[nodiscard]] static bool send_over(const UniqueFd& connection, int socket, const Return& back);
  [[nodiscard]] bool denied(AddressId id) const { return entries_[id].denied; }
  // It is to be released by all that hold it.
  [[nodiscard]] bool withdrawn(AddressId id) const { return entries_[id].withdrawn; }
  [[nodiscard]] Shares::User owner(AddressId id) const { return entries_[id].owner; }

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
    std::uint32_t holders = 0;
    Shares::User owner = 0;  // of the peer that brought it first
    bool denied = false;
    bool withdrawn = false;
    [[nodiscard]] bool counts() const { return holders > 0 && !withdrawn; }
  };
  [[nodiscard]] bool has_room_for(Shares::User owner);
  std::vector<Entry> entries_;
};

}  // namespace lingerd
