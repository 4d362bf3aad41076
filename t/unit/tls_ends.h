// SPDX-License-Identifier: Apache-2.0
// The two ends of a TLS connection as OpenSSL has them, in memory, and what a connection that is
// parked takes along, got from them as httpd's module gets it.
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "mod_linger_tls/inner/server_session.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/state.h"

namespace tls_ends {

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using Context = std::unique_ptr<SSL_CTX, Free<SSL_CTX_free>>;

inline void must(bool holds) {
  if (!holds) std::abort();
}

inline Key p256_key() {
  return Key(EVP_EC_gen("P-256"));
}
inline Key rsa_key() {
  return Key(EVP_RSA_gen(2048));
}

inline Certificate certificate(EVP_PKEY* key, const char* name) {
  Certificate out(X509_new());
  X509_set_version(out.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(out.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(out.get()), -3'600);
  X509_gmtime_adj(X509_getm_notAfter(out.get()), 86'400);
  X509_set_pubkey(out.get(), key);
  X509_NAME* subject = X509_get_subject_name(out.get());
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
  X509_set_issuer_name(out.get(), subject);
  must(X509_sign(out.get(), key, EVP_sha256()) > 0);
  return out;
}

inline void use(SSL_CTX* context, const Key& key, const char* name) {
  must(SSL_CTX_use_PrivateKey(context, key.get()) == 1);
  must(SSL_CTX_use_certificate(context, certificate(key.get(), name).get()) == 1);
}

inline int any_certificate(int, X509_STORE_CTX*) {
  return 1;
}

inline int first_protocol(SSL*, const unsigned char** out, unsigned char* out_length,
                          const unsigned char* in, unsigned, void*) {
  *out_length = in[0];
  *out = in + 1;
  return SSL_TLSEXT_ERR_OK;
}

inline Context server_context(const Key& key) {
  Context out(SSL_CTX_new(TLS_server_method()));
  use(out.get(), key, "server");
  must(SSL_CTX_set_session_id_context(out.get(), reinterpret_cast<const unsigned char*>("x"), 1));
  SSL_CTX_set_alpn_select_cb(out.get(), first_protocol, nullptr);
  return out;
}

inline Context client_context() {
  return Context(SSL_CTX_new(TLS_client_method()));
}

class End {
 public:
  explicit End(SSL_CTX* context) : ssl_(SSL_new(context)) {
    for (BIO** each : {&in_, &out_}) {
      *each = BIO_new(BIO_s_mem());
      BIO_set_mem_eof_return(*each, -1);
    }
    SSL_set_bio(ssl_.get(), in_, out_);
  }
  SSL* ssl() const { return ssl_.get(); }

  void give(lingerd::tls::ConstBytes bytes) {
    if (!bytes.empty()) BIO_write(in_, bytes.data(), static_cast<int>(bytes.size()));
  }
  std::string take() {
    std::string out(BIO_ctrl_pending(out_), '\0');
    if (!out.empty()) BIO_read(out_, out.data(), static_cast<int>(out.size()));
    return out;
  }
  void say(std::string_view text) {
    must(SSL_write(ssl(), text.data(), static_cast<int>(text.size())) ==
         static_cast<int>(text.size()));
  }
  std::string hear() {
    std::string out;
    char part[16'384];
    for (int n = 0; (n = SSL_read(ssl(), part, sizeof part)) > 0;) {
      out.append(part, static_cast<std::size_t>(n));
    }
    return out;
  }

 private:
  std::unique_ptr<SSL, Free<SSL_free>> ssl_;
  BIO* in_ = nullptr;
  BIO* out_ = nullptr;
};

inline lingerd::tls::ConstBytes bytes(std::string_view text) {
  return {reinterpret_cast<const unsigned char*>(text.data()), text.size()};
}

inline void move(End& from, End& to) {
  to.give(bytes(from.take()));
}

// Until both are done, or neither has anything to say.
inline bool shake_hands(End& client, End& server) {
  SSL_set_connect_state(client.ssl());
  SSL_set_accept_state(server.ssl());
  for (int round = 0; round < 4; ++round) {
    SSL_do_handshake(client.ssl());
    move(client, server);
    SSL_do_handshake(server.ssl());
    move(server, client);
  }
  return SSL_is_init_finished(client.ssl()) == 1 && SSL_is_init_finished(server.ssl()) == 1;
}

// ---- What httpd's module learns of a connection: by the key log, and by counting records.

struct Tap {
  lingerd::tls::Direction client;
  lingerd::tls::Direction server;
};

inline int tap_index() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

inline void learn_secret(const SSL* ssl, const char* line) {
  auto* tap = static_cast<Tap*>(SSL_get_ex_data(ssl, tap_index()));
  const std::string_view text = line;
  if (tap == nullptr || text.substr(6, 17) != "_TRAFFIC_SECRET_0") return;
  auto& to = text[0] == 'C' ? tap->client : tap->server;
  const std::string hex(text.substr(text.rfind(' ') + 1));
  const auto out = to.secret.reset(hex.size() / 2);
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<unsigned char>(std::stoul(hex.substr(2 * i, 2), nullptr, 16));
  }
}

inline void count(int writes, int, int type, const void* buffer, std::size_t, SSL*, void* arg) {
  auto& direction = writes != 0 ? static_cast<Tap*>(arg)->server : static_cast<Tap*>(arg)->client;
  const auto first = *static_cast<const unsigned char*>(buffer);
  if (type == SSL3_RT_HEADER && first == 23) ++direction.sequence;
  if (type == SSL3_RT_HANDSHAKE && first == SSL3_MT_FINISHED) direction.sequence = 0;
}

inline void listen(End& server, Tap& tap) {
  SSL_CTX_set_keylog_callback(SSL_get_SSL_CTX(server.ssl()), learn_secret);
  SSL_set_ex_data(server.ssl(), tap_index(), &tap);
  SSL_set_msg_callback(server.ssl(), count);
  SSL_set_msg_callback_arg(server.ssl(), &tap);
}

inline lingerd::tls::TlsState state_of(const End& server, const Tap& tap) {
  SSL* ssl = server.ssl();
  lingerd::tls::TlsState out;
  out.suite = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl));
  out.client = tap.client;
  out.server = tap.server;
  out.secure_renegotiation = SSL_get_secure_renegotiation_support(ssl) == 1;
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (name != nullptr) out.server_name = name;
  const unsigned char* alpn = nullptr;
  unsigned length = 0;
  SSL_get0_alpn_selected(ssl, &alpn, &length);
  out.alpn.assign(reinterpret_cast<const char*>(alpn), length);
  out.session = lingerd::tls::session_without_secret(ssl);
  return out;
}

}  // namespace tls_ends
