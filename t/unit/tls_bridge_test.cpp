// SPDX-License-Identifier: Apache-2.0
// Between OpenSSL's client and OpenSSL's servers; tls_bridge_records_test has clients that do what
// OpenSSL's doesn't.
#include "mod_linger_tls/inner/bridge.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "mod_linger_tls/inner/server_session.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/state.h"
#include "t/unit/tls_bridge_base.h"
#include "t/unit/tls_ends.h"
#include "t/unit/tls_process.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd::tls;
using namespace tls_ends;

namespace {

std::string much(std::size_t length) {
  std::string out(length, 'x');
  for (std::size_t i = 0; i < length; i += 97) out[i] = static_cast<char>('a' + i % 26);
  return out;
}

}  // namespace

TEST_GROUP_BASE(tls_bridge, BridgeTest){};

TEST(tls_bridge, a_client_goes_on_with_another_process_and_another) {
  for (const char* suite : kSuites) {
    meet(suite);
    for (unsigned trip = 0; trip < 5; ++trip) {
      LONGS_EQUAL(trip, parked.trips);
      come_back();
      STRCMP_EQUAL(suite, SSL_get_cipher(process->server.ssl()));
      ask_and_answer();
      ask_and_answer();
      park();
    }
  }
}

TEST(tls_bridge, the_server_knows_of_the_client_what_it_knew) {
  const Key client_key = p256_key();
  use(clients.get(), client_key, "a client");
  SSL_CTX_set_verify(servers.get(), SSL_VERIFY_PEER, any_certificate);
  meet();
  come_back();
  SSL* ssl = process->server.ssl();
  STRCMP_EQUAL("www.example.org", SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name));
  const unsigned char* alpn = nullptr;
  unsigned length = 0;
  SSL_get0_alpn_selected(ssl, &alpn, &length);
  STRNCMP_EQUAL("http/1.1", reinterpret_cast<const char*>(alpn), 8);
  LONGS_EQUAL(8, length);
  X509* peer = SSL_get0_peer_certificate(ssl);
  CHECK(peer != nullptr);
  char name[64];
  X509_NAME_oneline(X509_get_subject_name(peer), name, sizeof name);
  STRCMP_EQUAL("/CN=a client", name);
  LONGS_EQUAL(X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, SSL_get_verify_result(ssl));
  ask_and_answer();
  park();
  come_back();
  CHECK(SSL_get0_peer_certificate(process->server.ssl()) != nullptr);
}

TEST(tls_bridge, the_server_knows_what_the_client_said_of_renegotiation) {
  meet();
  for (const bool secure : {true, false}) {
    parked.secure_renegotiation = secure;
    come_back();
    LONGS_EQUAL(secure, SSL_get_secure_renegotiation_support(process->server.ssl()));
    ask_and_answer();
    park();
  }
}

TEST(tls_bridge, a_state_has_no_secret_but_the_two_of_the_connection) {
  meet();
  unsigned char master[64];
  const std::size_t length =
      SSL_SESSION_get_master_key(SSL_get_session(client->ssl()), master, sizeof master);
  const std::string_view session(reinterpret_cast<const char*>(parked.session.data()),
                                 parked.session.size());
  CHECK(length >= 32);
  CHECK(session.find({reinterpret_cast<const char*>(master), length}) == session.npos);
  CHECK(session.size() < 200);
}

TEST(tls_bridge, a_client_without_names_goes_on) {
  client = std::make_unique<End>(clients.get());
  End server(servers.get());
  Tap tap;
  listen(server, tap);
  CHECK(shake_hands(*client, server));
  client->hear();
  parked = state_of(server, tap);
  CHECK(parked.server_name.empty() && parked.alpn.empty());
  come_back();
  ask_and_answer();
}

TEST(tls_bridge, large_bodies_arrive_both_ways_in_pieces_of_any_size) {
  for (const std::size_t piece : {1, 7, 4'000, 20'000, 1'000'000}) {
    const std::string body = much(piece == 1 ? 40'000 : 600'000);
    meet();
    come_back();
    client->say(body);
    const std::string sent = client->take();
    std::string heard;
    for (std::size_t at = 0; at < sent.size(); at += piece) {
      heard += process->hear(bytes(std::string_view(sent).substr(at, piece)));
    }
    CHECK(heard == body);
    process->server.say(body);
    const std::string answer = process->server.take();
    for (std::size_t at = 0; at < answer.size(); at += piece) {
      CHECK(process->bridge.from_server(bytes(std::string_view(answer).substr(at, piece))));
      client->give(bytes(process->for_client()));
    }
    CHECK(client->hear() == body);
    park();
  }
}

TEST(tls_bridge, the_server_may_take_as_little_as_it_asks_for) {
  meet();
  come_back();
  client->say("GET /next");
  CHECK(process->bridge.from_client(bytes(client->take())));
  std::string heard;
  while (!process->bridge.for_server().empty()) {
    CHECK(heard.empty());
    STRCMP_EQUAL("bytes under way", process->bridge.why_not_park());
    process->server.give(process->bridge.for_server().first(1));
    process->bridge.server_took(1);
    heard += process->server.hear();
  }
  STRCMP_EQUAL("GET /next", heard.c_str());
}

TEST(tls_bridge, both_sides_may_take_new_keys_at_any_time) {
  for (const char* suite : kSuites) {
    meet(suite);
    for (const int request : {SSL_KEY_UPDATE_NOT_REQUESTED, SSL_KEY_UPDATE_REQUESTED}) {
      come_back();
      CHECK(SSL_key_update(client->ssl(), request) == 1);
      ask_and_answer();
      ask_and_answer();
      CHECK(SSL_key_update(process->server.ssl(), request) == 1);
      ask_and_answer();
      ask_and_answer();
      CHECK(SSL_key_update(client->ssl(), request) == 1);
      CHECK(SSL_key_update(process->server.ssl(), request) == 1);
      ask_and_answer();
      STRCMP_EQUAL("", server_hears().c_str());  // the bridge's own answer
      park();
    }
    come_back();
    ask_and_answer();
  }
}

TEST(tls_bridge, an_answer_to_new_keys_is_owed_before_parking) {
  meet();
  come_back();
  CHECK(SSL_key_update(client->ssl(), SSL_KEY_UPDATE_REQUESTED) == 1);
  SSL_do_handshake(client->ssl());
  STRCMP_EQUAL("", server_hears().c_str());
  STRCMP_EQUAL("a KeyUpdate of the client's to be answered", process->bridge.why_not_park());
  STRCMP_EQUAL("late", client_hears("late").c_str());
  park();
}

TEST(tls_bridge, tickets_are_not_the_clients) {
  meet();
  process = std::make_unique<Process>(servers.get(), parked);
  LONGS_EQUAL(0, SSL_get_num_tickets(process->server.ssl()));
  SSL_set_num_tickets(process->server.ssl(), 2);
  process->shake_hands();
  CHECK(process->good && process->bridge.up());
  CHECK(process->bridge.for_client().empty());
  ask_and_answer();
  park();
}

TEST(tls_bridge, what_passes_the_server_by_arrives_among_what_it_says) {
  for (const char* suite : kSuites) {
    meet(suite);
    for (const std::size_t length : {1, 16'384, 16'385, 600'000}) {
      come_back();
      const std::string body = much(length);
      client->say("GET /next");
      STRCMP_EQUAL("GET /next", server_hears().c_str());
      client->give(bytes(process->pass_by("first ")));
      client->give(bytes(process->say("second ")));
      client->give(bytes(process->pass_by(body)));
      CHECK(client->hear() == "first second " + body);
      ask_and_answer();
      park();
    }
  }
}

TEST(tls_bridge, new_keys_come_before_what_passes_the_server_by) {
  meet();
  for (int trip = 0; trip < 2; ++trip) {
    come_back();
    CHECK(SSL_key_update(client->ssl(), SSL_KEY_UPDATE_REQUESTED) == 1);
    client->say("GET /next");
    STRCMP_EQUAL("GET /next", server_hears().c_str());
    client->give(bytes(process->pass_by("200 next")));
    STRCMP_EQUAL("200 next", client->hear().c_str());
    CHECK(process->good);
    park();
  }
}

TEST(tls_bridge, nothing_passes_by_a_server_that_has_something_to_say) {
  meet();
  process = std::make_unique<Process>(servers.get(), parked);
  CHECK(!process->bridge.may_pass_by());  // a handshake
  process->shake_hands();
  CHECK(process->bridge.may_pass_by());
  process->server.say("half");
  const std::string record = process->server.take();
  CHECK(process->bridge.from_server(bytes(std::string_view(record).substr(0, 9))));
  CHECK(!process->bridge.may_pass_by());
  CHECK(process->bridge.from_server(bytes(std::string_view(record).substr(9))));
  CHECK(process->bridge.may_pass_by());
  client->give(bytes(process->for_client()));
  SSL_shutdown(process->server.ssl());
  process->take_from_server();
  CHECK(!process->bridge.may_pass_by());  // it has said goodbye
  meet();
  come_back();
  park();
  CHECK(!process->bridge.may_pass_by());
}
