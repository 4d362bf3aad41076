// SPDX-License-Identifier: Apache-2.0
// The server's side of the inner handshake: mod_ssl's own SSL object, which resumes the client's
// session with a key that both sides, in one process, have just made up. So mod_ssl knows of the
// client what it knew before (its certificate, SNI, ALPN, cipher), by nothing but OpenSSL's public
// API.
#pragma once

#include <openssl/ssl.h>

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"

namespace lingerd::tls {

// For TlsState::session: the session of a connection in DER, its secret zeroed. Empty: there is
// none.
[[nodiscard]] std::vector<unsigned char> session_without_secret(SSL* ssl);

class ServerSession {
 public:
  // `session` as session_without_secret() made it. False: it isn't one, or of another suite.
  [[nodiscard]] bool start(const Suite& suite, ConstBytes session);

  // Before SSL_accept, of the object that is to resume: in mod_ssl's hook pre_handshake. `find` is
  // a callback of the caller's, who knows which ServerSession belongs to an SSL object, and calls
  // find() of it.
  [[nodiscard]] static bool admit(SSL* ssl, SSL_psk_find_session_cb_func find);
  // What such a callback returns. Any other identity than this trip's gets no session: then there
  // is no certificate that the inner client would accept, and the handshake fails.
  [[nodiscard]] int find(const unsigned char* identity, std::size_t length,
                         SSL_SESSION** session) const;

  const Secret& key() const { return key_; }
  ConstBytes identity() const { return identity_; }

 private:
  struct FreeSession {
    void operator()(SSL_SESSION* session) const { SSL_SESSION_free(session); }
  };
  Secret key_;
  std::array<unsigned char, 16> identity_{};
  std::unique_ptr<SSL_SESSION, FreeSession> session_;
};

}  // namespace lingerd::tls
