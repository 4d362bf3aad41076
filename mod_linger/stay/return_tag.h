// SPDX-License-Identifier: Apache-2.0
// The tag of a parked connection: what only this httpd can make, so that nothing comes back that it
// hasn't parked itself. A keyed hash (SipHash-2-4) over which socket it is (the kernel numbers
// them, and never gives a number twice), over both its addresses, and over all that httpd takes
// from the record with which it comes back.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "mod_linger/stay/endpoint.h"

namespace lingerd {

// Made once by httpd's parent; its children inherit it.
using ReturnKey = std::array<unsigned char, 16>;

// Which socket it is: the same for every copy of its descriptor.
struct SocketIdentity {
  std::uint64_t cookie = 0;  // SO_COOKIE
  Endpoint local;
  Endpoint client;
};
static_assert(std::has_unique_object_representations_v<SocketIdentity>);

struct TaggedConnection : SocketIdentity {
  std::uint32_t keepalives = 0;
  std::uint32_t keepalive_ms = 0;
};
static_assert(std::has_unique_object_representations_v<TaggedConnection>);

// Not with an APR-util before 1.6.
[[nodiscard]] bool has_tags();
// `stay`: of a connection over TLS (TlsParking::deposit); 0: it isn't one.
[[nodiscard]] std::uint64_t tag_of(const TaggedConnection& connection, const ReturnKey& key,
                                   std::uint64_t stay = 0);

// Nothing before Linux 4.12.
[[nodiscard]] std::optional<std::uint64_t> cookie_of(int socket);

}  // namespace lingerd
