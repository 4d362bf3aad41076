// SPDX-License-Identifier: Apache-2.0
// A process that a connection has come back to: the bridge, and an SSL object such as mod_ssl's.
#pragma once

#include <openssl/ssl.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "mod_linger_tls/inner/bridge.h"
#include "mod_linger_tls/inner/server_session.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/state.h"
#include "t/unit/tls_ends.h"

namespace tls_ends {

inline int bridge_index() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

inline int find_session(SSL* ssl, const unsigned char* identity, std::size_t length,
                        SSL_SESSION** session) {
  return static_cast<lingerd::tls::Bridge*>(SSL_get_ex_data(ssl, bridge_index()))
      ->find_session(identity, length, session);
}

class Process {
 public:
  Process(SSL_CTX* context, lingerd::tls::TlsState state,
          SSL_psk_find_session_cb_func find = find_session)
      : server(context), bridge(std::move(state)) {
    good = bridge.start();
    SSL_set_ex_data(server.ssl(), bridge_index(), &bridge);
    must(lingerd::tls::ServerSession::admit(server.ssl(), find));
    SSL_set_accept_state(server.ssl());
  }

  void shake_hands() {
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
  // What the server understands of it.
  std::string hear(lingerd::tls::ConstBytes from_client) {
    good = bridge.from_client(from_client) && good;
    give_server();
    return server.hear();
  }
  std::string for_client() {
    const lingerd::tls::ConstBytes all = bridge.for_client();
    std::string out(reinterpret_cast<const char*>(all.data()), all.size());
    bridge.client_took(all.size());
    return out;
  }
  std::string say(std::string_view text) {
    server.say(text);
    take_from_server();
    return for_client();
  }
  // Past the server.
  std::string pass_by(std::string_view text) {
    must(bridge.may_pass_by() && bridge.freshen_client_key());
    std::string out = for_client();
    const std::size_t before = out.size();
    out.resize(before + lingerd::tls::Bridge::records_length(text.size()));
    good = bridge.seal_content(bytes(text), {reinterpret_cast<unsigned char*>(out.data()) + before,
                                             out.size() - before}) &&
           good;
    return out;
  }

  End server;
  lingerd::tls::Bridge bridge;
  bool good = false;
};

inline constexpr const char* kSuites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                          "TLS_CHACHA20_POLY1305_SHA256"};

// A connection between OpenSSL's two ends, on which one request has been answered.
inline lingerd::tls::TlsState meet(SSL_CTX* servers, End& client, const char* suite = kSuites[0]) {
  must(SSL_set_ciphersuites(client.ssl(), suite) == 1);
  SSL_set_tlsext_host_name(client.ssl(), "www.example.org");
  SSL_set_alpn_protos(client.ssl(), reinterpret_cast<const unsigned char*>("\x08http/1.1"), 9);
  End server(servers);
  Tap tap;
  listen(server, tap);
  must(shake_hands(client, server));
  client.hear();  // tickets
  client.say("GET /");
  move(client, server);
  must(server.hear() == "GET /");
  server.say("200");
  move(server, client);
  must(client.hear() == "200");
  return state_of(server, tap);
}

}  // namespace tls_ends
