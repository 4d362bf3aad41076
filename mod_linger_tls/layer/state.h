// SPDX-License-Identifier: Apache-2.0
// All that another process needs to go on with a TLS 1.3 connection between two requests, and how
// it is kept meanwhile: encoded strictly, and sealed (AES-256-GCM) under a key of httpd's own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/secret.h"

namespace lingerd::tls {

inline constexpr std::size_t kMaxSealedState = 4'096;
// What seal() adds: format, nonce, tag.
inline constexpr std::size_t kSealOverhead = 1 + 12 + 16;
inline constexpr std::size_t kMaxState = kMaxSealedState - kSealOverhead;

struct TlsState {
  std::uint16_t suite = 0;  // suite_of() has it
  Direction client;         // what the client writes
  Direction server;         // what the server writes
  std::uint32_t trips = 0;  // how often it has come back so far
  // What the client has said of TLS 1.2's renegotiation, which mod_ssl shows to scripts.
  bool secure_renegotiation = false;
  bool late_authentication = false;  // it would let itself be asked for a certificate later on
  // What httpd's configuration asked of clients (client_rules.h).
  std::uint32_t client_rules = 0;
  std::string server_name;  // SNI, or empty; at most 255 bytes
  std::string alpn;         // the protocol chosen, or empty; at most 255 bytes
  // SSL_SESSION in DER: the client's certificate (of a caller that parks one), cipher, id and id
  // context; not its secret. server_session.h makes it and reads it.
  std::vector<unsigned char> session;
};

using SealKey = std::array<unsigned char, 32>;

// How many bytes of `out` are the sealed state; 0: it doesn't fit, or OpenSSL can't. `bound_to` is
// what has to be the same when it is opened again (which slot, which socket, both addresses); it
// isn't in `out`. A key is good for 2^32 seals: nonces are random.
[[nodiscard]] std::size_t seal(const TlsState& state, const SealKey& key, ConstBytes bound_to,
                               Bytes out);
// False: another key, bound to something else, changed, of another format, or not what encode()
// makes.
[[nodiscard]] bool unseal(ConstBytes sealed, const SealKey& key, ConstBytes bound_to,
                          TlsState& state);

// What seal() has inside. 0, or how many bytes of `out`.
[[nodiscard]] std::size_t encode(const TlsState& state, Bytes out);
[[nodiscard]] bool decode(ConstBytes bytes, TlsState& state);

}  // namespace lingerd::tls
