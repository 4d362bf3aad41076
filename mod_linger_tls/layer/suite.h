// SPDX-License-Identifier: Apache-2.0
// The cipher suites of TLS 1.3 with which a connection may be parked: those that a web server has
// on. The CCM suites aren't there.
#pragma once

#include <openssl/types.h>

#include <cstddef>
#include <cstdint>

namespace lingerd::tls {

inline constexpr std::size_t kIvLength = 12;
inline constexpr std::size_t kTagLength = 16;
inline constexpr std::size_t kMaxKeyLength = 32;
inline constexpr std::size_t kMaxHashLength = 48;

struct Suite {
  std::uint16_t id;  // as on the wire
  std::size_t key_length;
  std::size_t hash_length;
  const char* cipher;  // OpenSSL's names
  const char* digest;
  // After that many records under one key the writer takes the next one (RFC 8446, 5.5).
  std::uint64_t records_per_key;
};

// nullptr: not one of them.
[[nodiscard]] const Suite* suite_of(std::uint16_t id);

// Fetched once a process: to fetch costs more than a small record. nullptr: this OpenSSL hasn't got
// it (a FIPS provider has no ChaCha20).
[[nodiscard]] const EVP_CIPHER* cipher_of(const Suite& suite);
[[nodiscard]] const EVP_MD* digest_of(const Suite& suite);
[[nodiscard]] EVP_MAC* hmac_algorithm();

}  // namespace lingerd::tls
