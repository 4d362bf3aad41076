// SPDX-License-Identifier: Apache-2.0
// Unix sockets and their names (unix(7)).
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <optional>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "base/unix_limits.h"

namespace lingerd {

static_assert(kMaxSocketPath == sizeof(sockaddr_un::sun_path) - 1);

struct UnixAddress {
  sockaddr_un name{};
  socklen_t size = 0;

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&name); }
};

// The name of a path, cut at kMaxSocketPath bytes: longer ones are refused where they are given.
// One that begins with a zero is an abstract name.
[[nodiscard]] UnixAddress unix_address(std::string_view path);

// By way of a descriptor, whatever became of the path: of the socket's file itself (O_PATH), or of
// the directory that `name` is in.
[[nodiscard]] UnixAddress unix_address_by(int descriptor, std::string_view name = {});

// The path that a socket is bound to; empty: none, or an abstract name. Nothing: errno says why.
[[nodiscard]] std::optional<std::string> path_of(int socket);

// Neither it nor connect(2) on it waits. Empty: errno says why.
[[nodiscard]] UniqueFd unix_socket(int type);

// The process at the other end, as it was when it connected, and its user.
[[nodiscard]] std::optional<ucred> peer_of(int socket);

// 0, or an errno.
[[nodiscard]] int connect_to(const UniqueFd& socket, const UnixAddress& address);

}  // namespace lingerd
