// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/why_not.h"

#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <string_view>

#include "mod_linger_tls/client_rules.h"
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

// What another process couldn't go on with, or not in the same way.
const char* not_carried(SSL* ssl, const Tap& tap) {
  if (SSL_version(ssl) != TLS1_3_VERSION) return "an older TLS than 1.3";
  if (tap.strange() != nullptr) return tap.strange();
  // The client would be refused what it is asked for after it has come back.
  if (tap.offers_late_authentication() && may_ask_for_certificate()) {
    return "a client that directories may ask for a certificate";
  }
  // What mod_ssl has found of it isn't all in OpenSSL's object; and when a restart revokes it, or
  // asks for another, such a connection has to end at once, as an idle one does.
  if (SSL_get0_peer_certificate(ssl) != nullptr || SSL_get_verify_result(ssl) != X509_V_OK) {
    return "a client's certificate";
  }
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

const char* why_not_park_tapped(const Connection& ours, SSL* ssl) {
  const Tap& tap = ours.tap;
  if (const char* reason = not_carried(ssl, tap)) return reason;
  if (!tap.is_open()) return "a handshake under way";
  if (tap.has_alert()) return "a TLS alert";
  const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl);
  const Suite* suite = cipher != nullptr ? suite_of(SSL_CIPHER_get_protocol_id(cipher)) : nullptr;
  if (suite == nullptr) return "another cipher";
  return check_keys(ours, *suite);
}

}  // namespace

const char* why_not_park(const Connection& ours) {
  SSL* ssl = ssl_of(ours);
  if (ssl == nullptr || ours.gone) return "no TLS any more";
  if (const char* held = held_by_ssl(ssl)) return held;
  return ours.bridge ? ours.bridge->why_not_park() : why_not_park_tapped(ours, ssl);
}

}  // namespace lingerd::tls
