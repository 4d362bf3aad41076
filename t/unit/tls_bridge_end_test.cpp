// SPDX-License-Identifier: Apache-2.0
// How a connection that has come back ends, and what can't come back.
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <cstddef>
#include <memory>

#include "mod_linger_tls/inner/bridge.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/state.h"
#include "t/unit/tls_bridge_base.h"
#include "t/unit/tls_ends.h"
#include "t/unit/tls_process.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd::tls;
using namespace tls_ends;

namespace {

// Whose key isn't the bridge's.
int find_another(SSL* ssl, const unsigned char* identity, std::size_t length,
                 SSL_SESSION** session) {
  if (find_session(ssl, identity, length, session) != 1) return 0;
  SSL_SESSION* copy = SSL_SESSION_dup(*session);
  SSL_SESSION_free(*session);
  unsigned char key[32] = {1};
  must(SSL_SESSION_set1_master_key(copy, key, sizeof key) == 1);
  *session = copy;
  return 1;
}

int find_none(SSL*, const unsigned char*, std::size_t, SSL_SESSION** session) {
  *session = nullptr;
  return 1;
}

}  // namespace

TEST_GROUP_BASE(tls_bridge_end,
                BridgeTest){void fails(SSL_psk_find_session_cb_func find, const char* why){
    process = std::make_unique<Process>(servers.get(), parked, find);
process->shake_hands();
STRCMP_EQUAL(why, process->bridge.failure());
CHECK(!process->bridge.up());
CHECK(!SSL_is_init_finished(process->server.ssl()));
ERR_clear_error();  // the server's
}
}
;

TEST(tls_bridge_end, the_clients_end_is_the_servers) {
  meet();
  come_back();
  LONGS_EQUAL(0, SSL_shutdown(client->ssl()));
  STRCMP_EQUAL("", server_hears().c_str());
  CHECK(process->bridge.client_has_ended());
  LONGS_EQUAL(SSL_RECEIVED_SHUTDOWN, SSL_get_shutdown(process->server.ssl()));
  STRCMP_EQUAL("an alert has been sent", process->bridge.why_not_park());
  // It may still be answered.
  STRCMP_EQUAL("bye", client_hears("bye").c_str());
}

TEST(tls_bridge_end, the_servers_end_is_the_clients) {
  meet();
  come_back();
  SSL_shutdown(process->server.ssl());
  process->take_from_server();
  client->give(bytes(process->for_client()));
  STRCMP_EQUAL("", client->hear().c_str());
  LONGS_EQUAL(SSL_RECEIVED_SHUTDOWN, SSL_get_shutdown(client->ssl()));
  CHECK(process->bridge.server_has_ended());
  STRCMP_EQUAL("an alert has been sent", process->bridge.why_not_park());
}

TEST(tls_bridge_end, a_server_with_another_key_gets_nowhere) {
  meet();
  fails(find_another, "mod_ssl refuses the ClientHello");
}

TEST(tls_bridge_end, a_server_that_wants_a_full_handshake_gets_nowhere) {
  meet();
  fails(find_none, "mod_ssl refuses the ClientHello");
}

TEST(tls_bridge_end, a_client_of_a_connection_that_failed_is_told) {
  meet();
  fails(find_none, "mod_ssl refuses the ClientHello");
  client->give(bytes(process->for_client()));
  char byte = 0;
  CHECK(SSL_read(client->ssl(), &byte, 1) <= 0);
  LONGS_EQUAL(SSL_R_TLSV1_ALERT_INTERNAL_ERROR, ERR_GET_REASON(ERR_get_error()));
  CHECK(!process->bridge.from_client(bytes("more")));
  CHECK(!process->bridge.from_server(bytes("more")));
  CHECK(process->bridge.for_client().empty());
}

TEST(tls_bridge_end, nothing_is_said_after_it_has_been_given_away) {
  meet();
  come_back();
  park();
  process->server.say("late");
  CHECK(!process->bridge.from_server(bytes(process->server.take())));
  SSL_shutdown(process->server.ssl());
  CHECK(!process->bridge.from_server(bytes(process->server.take())));
  CHECK(!process->bridge.from_client(bytes("x")));
  CHECK(process->bridge.for_client().empty() && process->bridge.for_server().empty());
  CHECK(process->bridge.state().client.secret.empty());
  CHECK(process->bridge.state().server.secret.empty());
  come_back();
  ask_and_answer();
}

TEST(tls_bridge_end, a_state_of_another_suite_or_without_a_session_does_not_start) {
  meet();
  TlsState other = parked;
  other.session.pop_back();
  Bridge cut(other);
  CHECK(!cut.start());
  STRCMP_EQUAL("a session that can't be read", cut.failure());
  other = parked;
  other.session.push_back(0);
  Bridge longer(other);
  CHECK(!longer.start());
  other = parked;
  other.suite = 0x1303;
  Bridge mixed(other);
  CHECK(!mixed.start());
  other.suite = 0x1302;
  Bridge short_secret(other);
  CHECK(!short_secret.start());
  STRCMP_EQUAL("OpenSSL has no keys for the client", short_secret.failure());
}
