// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/parking.h"

#include <httpd.h>  // before the others, which need it

#include <http_config.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/clock.h"
#include "mod_linger/guarded.h"
#include "mod_linger_tls/arrival.h"
#include "mod_linger_tls/client_rules.h"
#include "mod_linger_tls/connection.h"
#include "mod_linger_tls/inner/server_session.h"
#include "mod_linger_tls/layer/state.h"
#include "mod_linger_tls/seal_binding.h"
#include "mod_linger_tls/settings.h"
#include "mod_linger_tls/shared.h"
#include "mod_linger_tls/stay_table.h"
#include "mod_linger_tls/why_not.h"

namespace lingerd::tls {
namespace {

bool knows(conn_rec* connection) {
  const Connection* ours = connection->master == nullptr ? connection_of(connection) : nullptr;
  return ours != nullptr && (ours->bridge || ssl_of(*ours) != nullptr);
}

bool wants(const request_rec* request) {
  return settings_of(request->server).on;
}

std::uint32_t after_ms(const server_rec* server) {
  return settings_of(server).after_ms;
}

const char* objection(conn_rec* connection) noexcept {
  try {
    return why_not_park(*connection_of(connection));
  } catch (...) {
    return "no memory to look at its TLS";
  }
}

TlsState tapped_state(const Connection& connection) {
  SSL* ssl = ssl_of(connection);
  TlsState state;
  state.suite = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl));
  state.client = connection.tap.client();
  state.server = connection.tap.server();
  if (const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)) {
    state.server_name = name;
  }
  const unsigned char* protocol = nullptr;
  unsigned length = 0;
  SSL_get0_alpn_selected(ssl, &protocol, &length);
  state.alpn.assign(reinterpret_cast<const char*>(protocol), length);
  state.secure_renegotiation = SSL_get_secure_renegotiation_support(ssl) != 0;
  state.late_authentication = connection.tap.offers_late_authentication();
  state.session = session_without_secret(ssl);
  return state;
}

std::uint64_t random_id() {
  std::uint64_t id = 0;
  if (RAND_bytes(reinterpret_cast<unsigned char*>(&id), sizeof id) != 1) return 0;
  return id & kStayMask;
}

// Neither the key nor the sealed state is left on the stack: cores leave out where they belong.
std::uint64_t deposit(conn_rec* connection, const TlsBinding& binding, std::uint64_t until_ns) {
  const Connection& ours = *connection_of(connection);
  const std::uint64_t now_ns = monotonic_ns();
  TlsState state = ours.bridge ? ours.bridge->state() : tapped_state(ours);
  state.client_rules = client_rules();
  NewStay stay{.id = random_id(), .cookie = binding.cookie, .until_ns = until_ns};
  const SealBinding bound(stay.id, binding);
  if (stay.id == 0 || state.session.empty()) return 0;
  SealKey key;
  stay.generation = stays()->key_to_seal(key, now_ns);
  if (stay.generation == 0) return 0;
  std::array<unsigned char, kMaxSealedState> sealed;
  const std::size_t length = seal(state, key, bound.bytes(), sealed);
  OPENSSL_cleanse(key.data(), key.size());
  const bool kept = length != 0 && stays()->keep(stay, ConstBytes(sealed).first(length), now_ns);
  OPENSSL_cleanse(sealed.data(), length);
  return kept ? stay.id : 0;
}

// Keys that are of no use here any more go.
void left(conn_rec* connection) {
  Connection& ours = *connection_of(connection);
  ours.gone = true;
  ours.tap.wipe();
  if (ours.bridge) ours.bridge->forget();
}

bool take_back(std::uint64_t cookie, std::uint64_t stay) {
  std::array<unsigned char, kMaxSealedState> sealed;
  return stays()->claim(cookie, stay, sealed).good;
}

std::uint64_t stay_of(std::uint64_t cookie) {
  return stays()->last_of(cookie);
}

std::uint64_t kept() {
  return stays()->kept(monotonic_ns());
}

}  // namespace

const TlsParking& parking() {
  static constexpr TlsParking kParking{.knows = knows,
                                       .wants = wants,
                                       .after_ms = after_ms,
                                       .objection = objection,
                                       .deposit = guarded<deposit, std::uint64_t{0}>,
                                       .left = guarded<left>,
                                       .take_back = take_back,
                                       .stay_of = stay_of,
                                       .claim = claim,
                                       .kept = kept};
  return kParking;
}

}  // namespace lingerd::tls
