// SPDX-License-Identifier: Apache-2.0
#include "base/unix_socket.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

namespace lingerd {

UnixAddress unix_address(std::string_view path) {
  UnixAddress address;
  address.name.sun_family = AF_UNIX;
  const std::size_t length = std::min(path.size(), kMaxSocketPath);
  std::copy_n(path.data(), length, address.name.sun_path);
  const bool abstract = length > 0 && path[0] == '\0';
  address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length + !abstract);
  return address;
}

UnixAddress unix_address_by(int descriptor, std::string_view name) {
  std::array<char, sizeof(sockaddr_un::sun_path)> path{};
  std::snprintf(path.data(), path.size(), "/proc/self/fd/%d%s%.*s", descriptor,
                name.empty() ? "" : "/", static_cast<int>(name.size()), name.data());
  return unix_address(path.data());
}

std::optional<std::string> path_of(int socket) {
  sockaddr_un name{};
  socklen_t size = sizeof name;
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&name), &size) != 0) return std::nullopt;
  // sun_path needs no terminating zero; an abstract name begins with one.
  const std::size_t length =
      std::min<std::size_t>(size, sizeof name) - offsetof(sockaddr_un, sun_path);
  return std::string(name.sun_path, strnlen(name.sun_path, length));
}

UniqueFd unix_socket(int type) {
  return UniqueFd(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

std::optional<ucred> peer_of(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  const bool asked = getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
  return asked ? std::optional(peer) : std::nullopt;
}

int connect_to(const UniqueFd& socket, const UnixAddress& address) {
  return connect(socket.get(), address.get(), address.size) == 0 ? 0 : errno;
}

}  // namespace lingerd
