// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/inner/server_session.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#include <cstddef>
#include <ctime>
#include <vector>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"

namespace lingerd::tls {
namespace {

// Longer than between two lines of the same function of mod_ssl's.
constexpr long kLifetimeSeconds = 300;

bool set_time(SSL_SESSION* session) {
#if OPENSSL_VERSION_NUMBER >= 0x30300000L
  return SSL_SESSION_set_time_ex(session, std::time(nullptr)) != 0;
#else
  return SSL_SESSION_set_time(session, static_cast<long>(std::time(nullptr))) != 0;
#endif
}

}  // namespace

std::vector<unsigned char> session_without_secret(SSL* ssl) {
  std::vector<unsigned char> out;
  SSL_SESSION* own = SSL_get_session(ssl);
  SSL_SESSION* copy = own == nullptr ? nullptr : SSL_SESSION_dup(own);
  if (copy == nullptr) return out;
  static constexpr unsigned char kNone = 0;
  const int length =
      SSL_SESSION_set1_master_key(copy, &kNone, 1) == 1 ? i2d_SSL_SESSION(copy, nullptr) : 0;
  if (length > 0) {
    out.resize(static_cast<std::size_t>(length));
    unsigned char* at = out.data();
    if (i2d_SSL_SESSION(copy, &at) != length) out.clear();
  }
  SSL_SESSION_free(copy);
  return out;
}

bool ServerSession::start(const Suite& suite, ConstBytes session) {
  const unsigned char* at = session.data();
  session_.reset(d2i_SSL_SESSION(nullptr, &at, static_cast<long>(session.size())));
  SSL_SESSION* own = session_.get();
  if (own == nullptr || at != session.data() + session.size()) return false;
  const SSL_CIPHER* cipher = SSL_SESSION_get0_cipher(own);
  const Bytes key = key_.reset(suite.hash_length);
  return cipher != nullptr && SSL_CIPHER_get_protocol_id(cipher) == suite.id &&
         SSL_SESSION_get_protocol_version(own) == TLS1_3_VERSION &&
         RAND_bytes(key.data(), static_cast<int>(key.size())) == 1 &&
         RAND_bytes(identity_.data(), static_cast<int>(identity_.size())) == 1 &&
         SSL_SESSION_set1_master_key(own, key.data(), key.size()) == 1 &&
         SSL_SESSION_set_max_early_data(own, 0) == 1 && set_time(own) &&
         SSL_SESSION_set_timeout(own, kLifetimeSeconds) == 1;
}

// SSL_OP_NO_TICKET would have OpenSSL look for pre-shared keys in mod_ssl's session cache.
bool ServerSession::admit(SSL* ssl, SSL_psk_find_session_cb_func find) {
  SSL_set_psk_find_session_callback(ssl, find);
  SSL_set_options(ssl, SSL_OP_ALLOW_NO_DHE_KEX);
  SSL_clear_options(ssl, SSL_OP_NO_TICKET);
  return SSL_set_num_tickets(ssl, 0) == 1;
}

int ServerSession::find(const unsigned char* identity, std::size_t length,
                        SSL_SESSION** session) const {
  *session = nullptr;
  if (session_ && length == identity_.size() &&
      CRYPTO_memcmp(identity, identity_.data(), length) == 0) {
    if (SSL_SESSION_up_ref(session_.get()) != 1) return 0;
    *session = session_.get();
  }
  return 1;
}

}  // namespace lingerd::tls
