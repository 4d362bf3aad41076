// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>

namespace lingerd {

// Whether a socket call failed only for now (errno): nothing is there, or no room, or the kernel is
// short of memory; recv(2), send(2), tcp(7). epoll says when to try again.
[[nodiscard]] constexpr bool is_transient(int error) {
  return error == EAGAIN || error == EINTR || error == ENOMEM || error == ENOBUFS;
}

}  // namespace lingerd
