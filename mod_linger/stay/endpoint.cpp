// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/endpoint.h"

#include <netinet/in.h>

#include <cstring>

namespace lingerd {
namespace {

Endpoint ipv4(const void* address, in_port_t port) {
  Endpoint out;
  out.family = AF_INET;
  out.port = ntohs(port);
  std::memcpy(out.address.data(), address, sizeof(in_addr));
  return out;
}

}  // namespace

std::optional<Endpoint> endpoint_of(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(address);
    return ipv4(&in->sin_addr, in->sin_port);
  }
  if (address->sa_family != AF_INET6) return std::nullopt;
  const auto* in6 = reinterpret_cast<const sockaddr_in6*>(address);
  if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
    return ipv4(in6->sin6_addr.s6_addr + 12, in6->sin6_port);
  }
  Endpoint out;
  out.family = AF_INET6;
  out.port = ntohs(in6->sin6_port);
  out.scope = in6->sin6_scope_id;
  std::memcpy(out.address.data(), &in6->sin6_addr, sizeof out.address);
  return out;
}

}  // namespace lingerd
