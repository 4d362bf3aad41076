// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/arrival.h"

#include <httpd.h>  // before the others, which need it

#include <apr_pools.h>

#include <array>
#include <memory>
#include <utility>

#include "base/clock.h"
#include "mod_linger_tls/client_rules.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/state.h"
#include "mod_linger_tls/layer/suite.h"
#include "mod_linger_tls/seal_binding.h"
#include "mod_linger_tls/shared.h"
#include "mod_linger_tls/stay_table.h"

namespace lingerd::tls {
namespace {

constexpr char kKey[] = "mod_linger_tls arrival";

constexpr TlsClaim refused(const char* why) {
  return {TlsClaim::Result::kRefused, why};
}

constexpr TlsClaim over(const char* why) {
  return {TlsClaim::Result::kOver, why};
}

// A restart may have changed of which clients a certificate is asked, and this one wasn't asked.
bool is_outdated(const TlsState& state) {
  return state.client_rules != client_rules() ||
         (state.late_authentication && may_ask_for_certificate());
}

bool open_sealed(const Stays::Claimed& claimed, ConstBytes sealed, ConstBytes bound_to,
                 TlsState& state) {
  SealKey key;
  const bool opened = stays()->key_of(claimed.generation, key) &&
                      unseal(sealed.first(claimed.length), key, bound_to, state) &&
                      suite_of(state.suite) != nullptr;
  OPENSSL_cleanse(key.data(), key.size());
  return opened;
}

void keep_with(apr_socket_t* socket, std::unique_ptr<Arrival> arrival) {
  apr_socket_data_set(socket, arrival.get(), kKey, nullptr);
  apr_pool_cleanup_register(
      apr_socket_pool_get(socket), arrival.release(),
      [](void* data) -> apr_status_t {
        delete static_cast<Arrival*>(data);
        return APR_SUCCESS;
      },
      apr_pool_cleanup_null);
}

// In this order: claimed, and only then looked at.
TlsClaim claim_or_throw(apr_socket_t* socket, const TlsBinding& binding, std::uint64_t stay) {
  auto arrival = std::make_unique<Arrival>();
  arrival->since_ns = monotonic_ns();
  std::array<unsigned char, kMaxSealedState> sealed;
  const Stays::Claimed claimed = stays()->claim(binding.cookie, stay, sealed);
  if (claimed.expired) return over("it has waited for a worker longer than its TLS state is kept");
  if (!claimed.good) return refused("its TLS connection has come back before");
  if (!open_sealed(claimed, sealed, SealBinding(stay, binding).bytes(), arrival->state)) {
    return refused("what was kept of its TLS connection isn't this connection's");
  }
  if (is_outdated(arrival->state)) {
    return over("clients may be asked for certificates by other rules now");
  }
  keep_with(socket, std::move(arrival));
  return {};
}

}  // namespace

TlsClaim claim(apr_socket_t* socket, const TlsBinding& binding, std::uint64_t stay) noexcept {
  try {
    return claim_or_throw(socket, binding, stay);
  } catch (...) {
    return refused("there is no memory for its TLS connection");
  }
}

Arrival* arrival_on(apr_socket_t* socket) {
  void* data = nullptr;
  if (stays() == nullptr || socket == nullptr) return nullptr;
  if (apr_socket_data_get(&data, kKey, socket) != APR_SUCCESS) return nullptr;
  return static_cast<Arrival*>(data);
}

}  // namespace lingerd::tls
