// SPDX-License-Identifier: Apache-2.0
// What a TLS connection's trip costs in processor time, part by part, beside the handshakes that a
// client makes whose connection isn't parked. In memory: no socket, no httpd; the server's side
// only.
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mod_linger_tls/inner/bridge.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/state.h"
#include "t/unit/tls_ends.h"
#include "t/unit/tls_process.h"

using namespace lingerd::tls;
using namespace tls_ends;

namespace {

constexpr int kTimes = 1'000;
constexpr std::size_t kRecords = 640;  // 10 MB
const SealKey kKey{1, 2, 3};

double now_us() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

class Times {
 public:
  template <typename Work>
  void measure(Work work) {
    const double before = now_us();
    work();
    all_.push_back(now_us() - before);
  }
  void add_to_last(double us) { all_.back() += us; }
  double median() {
    std::nth_element(all_.begin(), all_.begin() + static_cast<long>(all_.size() / 2), all_.end());
    return all_[all_.size() / 2];
  }

 private:
  std::vector<double> all_;
};

// ---- Handshakes of OpenSSL's: the server's part.

SSL_SESSION* newest = nullptr;

int keep(SSL*, SSL_SESSION* session) {
  SSL_SESSION_free(std::exchange(newest, session));
  return 1;
}

// A session can be resumed once: always the newest.
double server_part(SSL_CTX* servers, SSL_CTX* clients, bool resumes) {
  Times times;
  for (int i = 0; i < kTimes / 2; ++i) {
    End client(clients);
    SSL_set_connect_state(client.ssl());
    SSL_set_tlsext_host_name(client.ssl(), "www.example.org");
    if (resumes) {
      SSL_SESSION* session = std::exchange(newest, nullptr);
      SSL_set_session(client.ssl(), session);
      SSL_SESSION_free(session);
    }
    std::unique_ptr<End> server;
    times.measure([&] {
      server = std::make_unique<End>(servers);
      SSL_set_accept_state(server->ssl());
    });
    for (int round = 0; round < 3; ++round) {
      SSL_do_handshake(client.ssl());
      move(client, *server);
      const double before = now_us();
      SSL_do_handshake(server->ssl());
      times.add_to_last(now_us() - before);
      move(*server, client);
    }
    must(SSL_is_init_finished(server->ssl()) == 1);
    must(SSL_session_reused(server->ssl()) == (resumes ? 1 : 0));
    client.hear();
    SSL_set_shutdown(client.ssl(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    const double before = now_us();
    server.reset();
    times.add_to_last(now_us() - before);
  }
  return times.median();
}

void print_handshakes(const char* name, const Key& key) {
  const Context servers = server_context(key);
  const Context clients = client_context();
  SSL_CTX_set_session_cache_mode(clients.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(clients.get(), keep);
  const double full = server_part(servers.get(), clients.get(), false);
  const double resumed = server_part(servers.get(), clients.get(), true);
  SSL_SESSION_free(std::exchange(newest, nullptr));
  std::printf("handshake, %s: full %.0f, resumed %.0f\n", name, full, resumed);
}

// ---- A trip.

void print_trip(SSL_CTX* servers, const char* suite) {
  const Context clients = client_context();
  End client(clients.get());
  TlsState state = meet(servers, client, suite);
  std::array<unsigned char, kMaxSealedState> sealed;
  std::size_t length = seal(state, kKey, {}, sealed);
  Times park;
  Times begin;
  Times shake;
  Times request;
  Times end;
  for (int i = 0; i < kTimes; ++i) {
    client.say("GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n");
    const std::string record = client.take();
    std::unique_ptr<Process> process;
    begin.measure([&] {
      must(unseal(ConstBytes(sealed).first(length), kKey, {}, state));
      process = std::make_unique<Process>(servers, state);
    });
    shake.measure([&] { process->shake_hands(); });
    must(process->good && process->bridge.up());
    request.measure([&] {
      must(!process->hear(bytes(record)).empty());
      client.give(bytes(process->say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")));
    });
    must(!client.hear().empty());
    park.measure([&] {
      must(process->bridge.why_not_park() == nullptr);
      length = seal(process->bridge.state(), kKey, {}, sealed);
      process->bridge.forget();
    });
    SSL_set_shutdown(process->server.ssl(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    end.measure([&] { process.reset(); });
  }
  std::printf(
      "trip, %s: park and seal %.1f, come back %.0f (objects %.0f, inner handshake %.0f), "
      "a request and its response %.1f, freed %.1f; %zu bytes sealed\n",
      suite, park.median(), begin.median() + shake.median(), begin.median(), shake.median(),
      request.median(), end.median(), length);
}

// ---- A large response.

double response_us(End& server, const auto& pass_on) {
  const std::string content(16'384, 'x');
  Times times;
  for (int i = 0; i < 7; ++i) {
    times.measure([&] {
      for (std::size_t record = 0; record < kRecords; ++record) {
        server.say(content);
        pass_on(server.take());
      }
    });
  }
  return times.median();
}

// In batches of the size that the filter's have.
double past_server_us(Bridge& bridge) {
  const std::string content(std::size_t{4} * 16'384, 'x');
  std::vector<unsigned char> records(Bridge::records_length(content.size()));
  Times times;
  for (int i = 0; i < 7; ++i) {
    times.measure([&] {
      for (std::size_t batch = 0; batch < kRecords / 4; ++batch) {
        must(bridge.may_pass_by() && bridge.freshen_client_key());
        must(bridge.seal_content(bytes(content), records));
      }
    });
  }
  return times.median();
}

void print_response(SSL_CTX* servers, const char* suite) {
  const Context clients = client_context();
  End client(clients.get());
  Process process(servers, meet(servers, client, suite));
  process.shake_hands();
  std::size_t passed = 0;
  const double before =
      response_us(process.server, [&](const std::string& record) { passed += record.size(); });
  // The inner records that the bridge hasn't seen are missed: another process.
  End again(clients.get());
  Process bridged(servers, meet(servers, again, suite));
  bridged.shake_hands();
  const double after = response_us(bridged.server, [&](const std::string& record) {
    must(bridged.bridge.from_server(bytes(record)));
    passed += bridged.bridge.for_client().size();
    bridged.bridge.client_took(bridged.bridge.for_client().size());
  });
  must(passed > 2 * 7 * kRecords * 16'384);
  std::printf(
      "response of 10 MB, %s: %.0f; after a trip past mod_ssl %.0f, as it is; through it %.0f\n",
      suite, before, past_server_us(bridged.bridge), after);
}

}  // namespace

int main() {
  std::puts("Microseconds of processor time, medians.");
  const Key p256 = p256_key();
  print_handshakes("RSA 2048", rsa_key());
  print_handshakes("P-256", p256);
  const Context servers = server_context(p256);
  for (const char* suite : kSuites) print_trip(servers.get(), suite);
  for (const char* suite : kSuites) print_response(servers.get(), suite);
  return 0;
}
