// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/inner/bridge.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mod_linger_tls/inner/server_session.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/record.h"
#include "mod_linger_tls/layer/state.h"
#include "t/unit/tls_ends.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd::tls;
using namespace tls_ends;

namespace {

int bridge_index() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

int find_session(SSL* ssl, const unsigned char* identity, std::size_t length,
                 SSL_SESSION** session) {
  return static_cast<Bridge*>(SSL_get_ex_data(ssl, bridge_index()))
      ->find_session(identity, length, session);
}

// A process that a connection has come back to: the bridge, and mod_ssl's object.
class Process {
 public:
  Process(SSL_CTX* context, TlsState state) : server(context), bridge(std::move(state)) {
    good = bridge.start();
    SSL_set_ex_data(server.ssl(), bridge_index(), &bridge);
    must(ServerSession::admit(server.ssl(), find_session));
    SSL_set_accept_state(server.ssl());
    for (int round = 0; good && round < 3; ++round) {
      give_server();
      SSL_do_handshake(server.ssl());
      take_from_server();
    }
  }

  void give_server() {
    server.give(bridge.for_server());
    bridge.server_took(bridge.for_server().size());
  }
  void take_from_server() { good = bridge.from_server(bytes(server.take())) && good; }
  std::string hear(std::string_view from_client) {
    good = bridge.from_client(bytes(from_client)) && good;
    give_server();
    return server.hear();
  }
  std::string for_client() {
    const ConstBytes all = bridge.for_client();
    std::string out(reinterpret_cast<const char*>(all.data()), all.size());
    bridge.client_took(all.size());
    return out;
  }
  void say(std::string_view text, End& client) {
    server.say(text);
    take_from_server();
    client.give(bytes(for_client()));
  }

  End server;
  Bridge bridge;
  bool good = false;
};

constexpr const char* kSuites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                   "TLS_CHACHA20_POLY1305_SHA256"};

}  // namespace

TEST_GROUP(tls_bridge) {
  Key key = p256_key();
  Context servers = server_context(key);
  Context clients = client_context();
  std::unique_ptr<End> client;
  std::unique_ptr<Process> process;
  TlsState parked;

  void meet(const char* suite = kSuites[0]) {
    client = std::make_unique<End>(clients.get());
    must(SSL_set_ciphersuites(client->ssl(), suite) == 1);
    SSL_set_tlsext_host_name(client->ssl(), "www.example.org");
    SSL_set_alpn_protos(client->ssl(), reinterpret_cast<const unsigned char*>("\x08http/1.1"), 9);
    End server(servers.get());
    Tap tap;
    listen(server, tap);
    CHECK(shake_hands(*client, server));
    client->hear();  // tickets
    client->say("GET /");
    move(*client, server);
    STRCMP_EQUAL("GET /", server.hear().c_str());
    server.say("200");
    move(server, *client);
    STRCMP_EQUAL("200", client->hear().c_str());
    parked = state_of(server, tap);
  }
  void come_back() {
    process = std::make_unique<Process>(servers.get(), parked);
    STRCMP_EQUAL("", process->bridge.failure());
    CHECK(process->good && process->bridge.up());
    CHECK(SSL_is_init_finished(process->server.ssl()));
    CHECK(SSL_session_reused(process->server.ssl()));
  }
  void ask_and_answer() {
    client->say("GET /next");
    STRCMP_EQUAL("GET /next", process->hear(client->take()).c_str());
    process->say("200 next", *client);
    STRCMP_EQUAL("200 next", client->hear().c_str());
  }
  void teardown() override {
    LONGS_EQUAL(0, ERR_peek_error());
    ERR_clear_error();
  }
};

TEST(tls_bridge, a_client_goes_on_with_another_process_and_another) {
  for (const char* suite : kSuites) {
    meet(suite);
    for (unsigned trip = 0; trip < 5; ++trip) {
      LONGS_EQUAL(trip, parked.trips);
      come_back();
      ask_and_answer();
      ask_and_answer();
      POINTERS_EQUAL(nullptr, process->bridge.why_not_park());
      parked = process->bridge.state();
      process->bridge.forget();
    }
  }
}
