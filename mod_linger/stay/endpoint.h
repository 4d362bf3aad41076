// SPDX-License-Identifier: Apache-2.0
// An IP address and a port, in a form that can be compared and hashed byte by byte.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <optional>
#include <type_traits>

namespace lingerd {

struct Endpoint {
  std::array<std::uint8_t, 16> address{};  // IPv4: the first four
  std::uint32_t scope = 0;                 // of a link-local IPv6 address: which link
  std::uint16_t port = 0;                  // host byte order
  std::uint16_t family = 0;                // AF_INET or AF_INET6

  bool operator==(const Endpoint&) const = default;
  [[nodiscard]] bool is_wildcard() const { return address == decltype(address){}; }
};
static_assert(std::has_unique_object_representations_v<Endpoint>);

// An IPv4 address that an IPv6 socket shows (::ffff:192.0.2.1) is IPv4. Nothing: it is of another
// family.
[[nodiscard]] std::optional<Endpoint> endpoint_of(const sockaddr* address);

}  // namespace lingerd
