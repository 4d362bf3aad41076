// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/return_tag.h"

#if __has_include(<apr_siphash.h>)
#include <apr_siphash.h>
#define LINGER_HAS_SIPHASH 1
#endif
#include <sys/socket.h>

#include <type_traits>

#ifndef SO_COOKIE
#define SO_COOKIE 57
#endif

namespace lingerd {

#if LINGER_HAS_SIPHASH

bool has_tags() {
  return true;
}

std::uint64_t tag_of(const TaggedConnection& connection, const ReturnKey& key, std::uint64_t stay) {
  static_assert(sizeof(ReturnKey) == APR_SIPHASH_KSIZE);
  if (stay == 0) return apr_siphash24(&connection, sizeof connection, key.data());
  struct OverTls : TaggedConnection {
    std::uint64_t stay;
  };
  static_assert(std::has_unique_object_representations_v<OverTls>);
  const OverTls over_tls{connection, stay};
  return apr_siphash24(&over_tls, sizeof over_tls, key.data());
}

#else

bool has_tags() {
  return false;
}

std::uint64_t tag_of(const TaggedConnection&, const ReturnKey&, std::uint64_t) {
  return 0;
}

#endif

std::optional<std::uint64_t> cookie_of(int socket) {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  if (getsockopt(socket, SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) return std::nullopt;
  return cookie;
}

}  // namespace lingerd
