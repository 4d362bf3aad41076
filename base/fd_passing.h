// SPDX-License-Identifier: Apache-2.0
// Descriptors in messages of Unix sockets (SCM_RIGHTS, unix(7)).
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <array>
#include <cstddef>
#include <span>

#include "base/unix_limits.h"

namespace lingerd {

// Room for what comes beside a message, `N` descriptors of it. Not zeroed: the kernel says how much
// it has filled.
template <std::size_t N>
struct alignas(cmsghdr) DescriptorRoom {
  std::array<std::byte, CMSG_SPACE(N * sizeof(int))> bytes;
};

// One message, without waiting and without SIGPIPE. The descriptors, kMostInMessage at most, stay
// the caller's. False: errno says why, and nothing has been sent.
[[nodiscard]] bool send_message(int socket, std::span<const std::byte> bytes,
                                std::span<const int> descriptors);

// What to receive into: `bytes` and `room` must outlive the call of recvmsg(2).
[[nodiscard]] msghdr message_into(iovec& bytes, std::span<std::byte> room);

// The descriptors that have come with a message, in their order, and how many there are; those
// beyond out.size() are left alone: the caller makes room for all that may come.
[[nodiscard]] std::size_t descriptors_in(msghdr& message, std::span<int> out);

}  // namespace lingerd
