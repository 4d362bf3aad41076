// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/own_listeners.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

// Newer than the headers of some systems; the kernel says if it doesn't know it.
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace lingerd {
namespace {

template <typename T>
bool get_option(int socket, int level, int name, T& value) {
  socklen_t size = sizeof value;
  return getsockopt(socket, level, name, &value, &size) == 0 && size == sizeof value;
}

bool is_set(int socket, int level, int name) {
  int value = 0;
  return get_option(socket, level, name, value) && value != 0;
}

}  // namespace

std::optional<std::uint64_t> network_of(int socket) {
  std::uint64_t cookie = 0;
  if (!get_option(socket, SOL_SOCKET, SO_NETNS_COOKIE, cookie)) return std::nullopt;
  return cookie;
}

void OwnListeners::add(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return;
  const auto at = endpoint_of(reinterpret_cast<const sockaddr*>(&address));
  if (!at) return;
  Listener listener;
  listener.at = *at;
  listener.takes_ipv4 =
      at->family == AF_INET6 && at->is_wildcard() && !is_set(socket, IPPROTO_IPV6, IPV6_V6ONLY);
  // httpd doesn't set it; systemd does for sockets that it passes (Transparent=yes). One flag
  // of the kernel's, which sockets of both families have.
  listener.takes_others = is_set(socket, IPPROTO_IP, IP_TRANSPARENT);
  listener.network = network_of(socket);
  listeners_.push_back(listener);
}

bool OwnListeners::Listener::takes(const Endpoint& local) const {
  if (local.family != at.family && !(takes_ipv4 && local.family == AF_INET)) return false;
  if (takes_others) return true;
  if (local.port != at.port) return false;
  return at.is_wildcard() || (local.address == at.address && local.scope == at.scope);
}

bool OwnListeners::could_accept(const Endpoint& local) const {
  return std::ranges::any_of(listeners_, [&](const Listener& each) { return each.takes(local); });
}

bool OwnListeners::could_accept(const Endpoint& local, std::optional<std::uint64_t> network) const {
  return std::ranges::any_of(listeners_, [&](const Listener& each) {
    return each.takes(local) && each.network == network;
  });
}

}  // namespace lingerd
