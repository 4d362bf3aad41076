// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/why_not.h"

#include <httpd.h>  // before the others, which need it

#include <apr_optional.h>
#include <http_config.h>
#include <mod_ssl.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <string_view>

#include "mod_linger_tls/feature.h"
#include "mod_linger_tls/inner/bridge.h"
#include "mod_linger_tls/last_record.h"
#include "mod_linger_tls/layer/suite.h"
#include "mod_linger_tls/tap.h"

namespace lingerd::tls {
namespace {

// OpenSSL has read a header, and waits for what belongs to it.
bool is_within_record(const SSL* ssl) {
  return std::string_view(SSL_rstate_string(ssl)) != "RH";
}

// Of either kind: what mod_ssl's object holds.
const char* held_by_ssl(SSL* ssl) {
  if (SSL_is_init_finished(ssl) == 0) return "a handshake under way";
  if (SSL_get_shutdown(ssl) != 0) return "a goodbye over TLS";
  if (SSL_has_pending(ssl) != 0 || is_within_record(ssl)) return "half a TLS record";
  if (SSL_want_write(ssl) || SSL_get_key_update_type(ssl) != SSL_KEY_UPDATE_NONE) {
    return "a TLS record to be written";
  }
  return nullptr;
}

// OpenSSL's result is carried. mod_ssl has an opinion of its own beside it, and lets in
// (optional_no_ca) whom it wouldn't call verified.
bool is_as_openssl_says(conn_rec* connection, const SSL* ssl) {
  const auto look_up = APR_RETRIEVE_OPTIONAL_FN(ssl_var_lookup);
  if (look_up == nullptr || SSL_get_verify_result(ssl) != X509_V_OK) return false;
  char name[] = "SSL_CLIENT_VERIFY";
  const char* value = look_up(connection->pool, connection->base_server, connection, nullptr, name);
  return value != nullptr && std::string_view(value) ==
                                 (SSL_get0_peer_certificate(ssl) != nullptr ? "SUCCESS" : "NONE");
}

// What another process couldn't go on with, or not in the same way.
const char* not_carried(SSL* ssl, const Tap& tap) {
  if (SSL_version(ssl) != TLS1_3_VERSION) return "an older TLS than 1.3";
  if (tap.strange() != nullptr) return tap.strange();
  // The client would be refused what it is asked for after it has come back.
  if (tap.offers_late_authentication() && may_ask_for_certificate()) {
    return "a client that directories may ask for a certificate";
  }
  // Of the certificates that the client has sent only its own is carried.
  const STACK_OF(X509)* chain = SSL_get_peer_cert_chain(ssl);
  if (chain != nullptr && sk_X509_num(chain) > 0) return "a chain of client certificates";
  // Our records are as long as they may be.
  if (SSL_SESSION_get_max_fragment_length(SSL_get_session(ssl)) != 0) return "short TLS records";
  return nullptr;
}

// Whatever OpenSSL's callbacks have told is tried, on both sides, on the last record that went by.
// That makes of a surprise, with any version of OpenSSL, a connection that stays.
const char* check_keys(const Connection& connection, const Suite& suite) {
  const Tap& tap = connection.tap;
  if (tap.client().secret.size() != suite.hash_length ||
      tap.server().secret.size() != suite.hash_length) {
    return "TLS secrets that nobody has told";
  }
  if (!connection.written.is_before(tap.server(), suite) ||
      !connection.read.is_before(tap.client(), suite)) {
    return "TLS records that its secrets don't open";
  }
  // Ours have none.
  if (connection.written.is_padded(tap.server(), suite)) return "padded TLS records";
  return nullptr;
}

const char* why_not_park_tapped(conn_rec* connection, const Connection& ours) {
  SSL* ssl = ours.ssl;
  const Tap& tap = ours.tap;
  if (const char* reason = not_carried(ssl, tap)) return reason;
  if (!is_as_openssl_says(connection, ssl)) return "a certificate that wasn't verified";
  if (!tap.is_open()) return "a handshake under way";
  if (tap.has_alert()) return "a TLS alert";
  const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl);
  const Suite* suite = cipher != nullptr ? suite_of(SSL_CIPHER_get_protocol_id(cipher)) : nullptr;
  if (suite == nullptr) return "another cipher";
  return check_keys(ours, *suite);
}

}  // namespace

const char* why_not_park(conn_rec* connection, const Connection& ours) {
  if (ours.ssl == nullptr || ours.gone) return "no TLS any more";
  if (const char* held = held_by_ssl(ours.ssl)) return held;
  return ours.bridge ? ours.bridge->why_not_park() : why_not_park_tapped(connection, ours);
}

}  // namespace lingerd::tls
