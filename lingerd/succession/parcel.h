// SPDX-License-Identifier: Apache-2.0
// Everything that one lingerd leaves to the next, as two descriptors: the ends of a pair of Unix
// sockets, inside which all others are in flight. First a label and the state, each in a memfd;
// then further pairs, which hold the sockets, 253 a message, as many messages as a pair takes. So
// no number of sockets is too large for it, and systemd's store keeps two descriptors. Each message
// says what its descriptors are: one that gets lost is missed at its own place, and no other is
// taken for it.
//
// Unpacking leaves all of it in the parcel (MSG_PEEK): what keeps the two ends can give it to
// another successor, as long as no socket has been touched.
//
// The limit is the kernel's on descriptors in flight (RLIMIT_NOFILE a user, which lingerd raises
// as far as it may); a pair takes some 140,000.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"

namespace lingerd {

struct Parcel {
  UniqueFd in;   // descriptors come out of `out` in the order in which they went in. Both are kept:
  UniqueFd out;  // systemd drops a stored descriptor whose other end is closed.
};

// What a descriptor is to a loop.
enum class Role : std::uint32_t {
  kParked,   // a parked connection
  kAddress,  // a way back
  kSocket,   // one that lingers
  kContent,  // of a socket that delivers: the first is the first such socket's, and so on
  kPeer,
  kUnknown,  // packed by a lingerd that didn't say
};
struct Descriptors {
  Role role;
  std::vector<int> in_order;
};

// `configuration` is the text of a configuration file that does: for a successor whose own doesn't.
// The descriptors stay the caller's as well. Throws std::system_error.
[[nodiscard]] Parcel pack(std::span<const std::byte> state, std::string_view configuration,
                          std::span<const Descriptors> descriptors);

struct Unpacked {
  struct Item {
    Role role = Role::kUnknown;
    std::uint32_t index = 0;  // among those of its role
    UniqueFd fd;
  };
  std::vector<std::byte> state;
  std::string configuration;
  std::vector<Item> items;     // in order, as many as there are
  std::uint64_t expected = 0;  // as many as were packed
  std::uint32_t attempts = 0;  // how often this parcel has been unpacked, this time included
};
[[nodiscard]] Unpacked unpack(const Parcel& parcel);

// The same with each item given to `sink` instead.
[[nodiscard]] Unpacked unpack(const Parcel& parcel,
                              const std::function<void(Unpacked::Item)>& sink);

}  // namespace lingerd
