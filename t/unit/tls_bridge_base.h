// SPDX-License-Identifier: Apache-2.0
// A client of OpenSSL's whose connection is parked, and comes back to one process after the other.
#pragma once

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <string_view>

#include "mod_linger_tls/layer/state.h"
#include "t/unit/tls_ends.h"
#include "t/unit/tls_process.h"

#include <CppUTest/TestHarness.h>

namespace tls_ends {

// As TEST_BASE makes it.
class BridgeTest : public Utest {
 public:
  Key key = p256_key();
  Context servers = server_context(key);
  Context clients = client_context();
  std::unique_ptr<End> client;
  std::unique_ptr<Process> process;
  lingerd::tls::TlsState parked;

  void meet(const char* suite = kSuites[0]) {
    client = std::make_unique<End>(clients.get());
    parked = tls_ends::meet(servers.get(), *client, suite);
  }
  void come_back() {
    process = std::make_unique<Process>(servers.get(), parked);
    process->shake_hands();
    STRCMP_EQUAL("", process->bridge.failure());
    CHECK(process->good && process->bridge.up());
    CHECK(SSL_is_init_finished(process->server.ssl()));
    CHECK(SSL_session_reused(process->server.ssl()));
  }
  void park() {
    POINTERS_EQUAL(nullptr, process->bridge.why_not_park());
    parked = process->bridge.state();
    process->bridge.forget();
  }
  std::string server_hears() { return process->hear(bytes(client->take())); }
  std::string client_hears(std::string_view text) {
    client->give(bytes(process->say(text)));
    return client->hear();
  }
  void ask_and_answer() {
    client->say("GET /next");
    STRCMP_EQUAL("GET /next", server_hears().c_str());
    STRCMP_EQUAL("200 next", client_hears("200 next").c_str());
  }
  void teardown() override {
    LONGS_EQUAL(0, ERR_peek_error());
    ERR_clear_error();
  }
};

}  // namespace tls_ends
