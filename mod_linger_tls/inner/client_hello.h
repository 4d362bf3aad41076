// SPDX-License-Identifier: Apache-2.0
// A ClientHello that asks for one thing: to resume by a pre-shared key without a key exchange.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"

namespace lingerd::tls {

enum class Extension : std::uint16_t {
  kServerName = 0,
  kAlpn = 16,
  kPreSharedKey = 41,
  kSupportedVersions = 43,
  kPskKeyExchangeModes = 45,
};

struct InnerHello {
  ConstBytes identity;           // of the key
  const Secret* key = nullptr;   // as long as the suite's hash
  std::string_view server_name;  // empty: none; at most 255 bytes
  std::string_view alpn;         // empty: none; at most 255 bytes
  bool secure_renegotiation = false;
};

inline constexpr std::size_t kRandomLength = 32;
inline constexpr std::size_t kMaxClientHello = 1'024;
// What is before the binder and isn't covered by it: its length, and that of all binders.
inline constexpr std::size_t kBinderLengths = 3;

// How many bytes; the last of them are room for the binder. 0: a name is too long, or there is no
// random number.
[[nodiscard]] std::size_t write_client_hello(const Suite& suite, const InnerHello& hello,
                                             std::array<unsigned char, kMaxClientHello>& out);

}  // namespace lingerd::tls
