// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/arrival.h"

#include <httpd.h>  // before the others, which need it

#include <apr_pools.h>

#include <array>
#include <memory>
#include <utility>

#include "base/clock.h"
#include "mod_linger_tls/layer/suite.h"
#include "mod_linger_tls/seal_binding.h"
#include "mod_linger_tls/shared.h"
#include "mod_linger_tls/stay_table.h"

namespace lingerd::tls {
namespace {

constexpr char kKey[] = "mod_linger_tls arrival";

// In this order: claimed, and only then looked at.
const char* claim_or_throw(apr_socket_t* socket, const TlsBinding& binding, std::uint64_t stay) {
  const std::uint64_t since_ns = monotonic_ns();
  std::array<unsigned char, kMaxSealedState> sealed;
  const Stays::Claimed claimed = stays()->claim(binding.cookie, stay, sealed);
  if (!claimed.good) return "its TLS connection has come back before";
  auto arrival = std::make_unique<Arrival>();
  arrival->since_ns = since_ns;
  SealKey key;
  const bool opened = stays()->key_of(claimed.generation, key) &&
                      unseal(ConstBytes(sealed).first(claimed.length), key,
                             SealBinding(stay, binding).bytes(), arrival->state) &&
                      suite_of(arrival->state.suite) != nullptr;
  OPENSSL_cleanse(key.data(), key.size());
  if (!opened) return "what was kept of its TLS connection isn't this connection's";
  apr_socket_data_set(socket, arrival.get(), kKey, nullptr);
  apr_pool_cleanup_register(
      apr_socket_pool_get(socket), arrival.release(),
      [](void* data) -> apr_status_t {
        delete static_cast<Arrival*>(data);
        return APR_SUCCESS;
      },
      apr_pool_cleanup_null);
  return nullptr;
}

}  // namespace

const char* claim(apr_socket_t* socket, const TlsBinding& binding, std::uint64_t stay) noexcept {
  try {
    return claim_or_throw(socket, binding, stay);
  } catch (...) {
    return "there is no memory for its TLS connection";
  }
}

Arrival* arrival_on(apr_socket_t* socket) {
  void* data = nullptr;
  if (stays() == nullptr || socket == nullptr) return nullptr;
  if (apr_socket_data_get(&data, kKey, socket) != APR_SUCCESS) return nullptr;
  return static_cast<Arrival*>(data);
}

}  // namespace lingerd::tls
