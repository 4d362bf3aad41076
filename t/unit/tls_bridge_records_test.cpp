// SPDX-License-Identifier: Apache-2.0
// Clients whose records OpenSSL's client wouldn't make.
#include <openssl/err.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "mod_linger_tls/inner/bridge.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/hkdf.h"
#include "mod_linger_tls/layer/protection.h"
#include "mod_linger_tls/layer/record.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/state.h"
#include "mod_linger_tls/layer/suite.h"
#include "t/unit/tls_bytes.h"
#include "t/unit/tls_ends.h"
#include "t/unit/tls_process.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd::tls;
using namespace tls_bytes;
using tls_ends::End;
using tls_ends::Process;

namespace {

const Buffer kKeyUpdate{24, 0, 0, 1, 0};
const Buffer kKeyUpdateRequested{24, 0, 0, 1, 1};

}  // namespace

TEST_GROUP(tls_bridge_records) {
  tls_ends::Key key = tls_ends::p256_key();
  tls_ends::Context servers = tls_ends::server_context(key);
  tls_ends::Context clients = tls_ends::client_context();
  End met{clients.get()};
  TlsState parked = tls_ends::meet(servers.get(), met);
  Hkdf hkdf{*suite_of(parked.suite)};
  // The client's own view of its connection.
  RecordSealer sealer;
  RecordOpener opener;

  struct Heard {
    std::string by_server;
    std::string by_client;  // record types and contents
    std::string failure;
  };

  void start() {
    CHECK(sealer.start(hkdf, parked.client));
    CHECK(opener.start(hkdf, parked.server));
  }
  std::string understand(const std::string& records) {
    std::string out;
    ConstBytes left = tls_ends::bytes(records);
    while (left.size() > kHeaderLength) {
      const std::size_t length = kHeaderLength + (std::size_t{left[3]} << 8 | left[4]);
      Buffer plain(length);
      const RecordOpener::Opened opened = opener.open(left.first(length), plain);
      CHECK(opened.good);
      plain.resize(opened.length);
      out += std::to_string(static_cast<int>(opened.type)) + ":";
      for (const unsigned char each : plain) {
        out += opened.type == ContentType::kApplicationData
                   ? std::string(1, static_cast<char>(each))
                   : " " + std::to_string(each);
      }
      out += ";";
      if (opened.type == ContentType::kHandshake) CHECK(opener.advance(hkdf));
      left = left.subspan(length);
    }
    return out;
  }
  // `play` makes the client's records; the server answers "ok".
  Heard hear(const std::function<Buffer()>& play) {
    start();
    Process process(servers.get(), parked);
    process.shake_hands();
    CHECK(process.good);
    Heard out;
    out.by_server = process.hear(play());
    if (process.good && !process.bridge.client_has_ended()) out.by_client = process.say("ok");
    out.by_client = understand(out.by_client + process.for_client());
    out.failure = process.bridge.failure();
    ERR_clear_error();
    return out;
  }
  Buffer record(unsigned char type, const Buffer& content, std::size_t padding = 0) {
    return record_of(sealer, type, content, padding);
  }
  Buffer request() {
    return record(kData, {'G', 'E', 'T'});
  }
  void refused(Alert alert, const std::function<Buffer()>& play) {
    const Heard heard = hear(play);
    CHECK(!heard.failure.empty());
    STRCMP_EQUAL("", heard.by_server.c_str());
    STRCMP_EQUAL(("21: 2 " + std::to_string(static_cast<int>(alert)) + ";").c_str(),
                 heard.by_client.c_str());
  }
  void served(const char* answer, const std::function<Buffer()>& play) {
    const Heard heard = hear(play);
    STRCMP_EQUAL("", heard.failure.c_str());
    STRCMP_EQUAL("GET", heard.by_server.c_str());
    STRCMP_EQUAL(answer, heard.by_client.c_str());
  }
};

TEST(tls_bridge_records, padding_and_empty_records_are_no_harm) {
  served("23:ok;", [this] { return request(); });
  served("23:ok;", [this] { return record(kData, {'G', 'E', 'T'}, 300); });
  served("23:ok;", [this] {
    Buffer out;
    for (int i = 0; i < 32; ++i) out = join({out, record(kData, {}, i % 3)});
    return join({out, request()});
  });
}

TEST(tls_bridge_records, too_many_empty_records_are_refused) {
  refused(Alert::kUnexpectedMessage, [this] {
    Buffer out;
    for (int i = 0; i < 33; ++i) out = join({out, record(kData, {})});
    return join({out, request()});
  });
}

TEST(tls_bridge_records, new_keys_are_taken_and_answered_once) {
  served("23:ok;", [this] {
    const Buffer update = record(kHandshake, kKeyUpdate);
    CHECK(sealer.advance(hkdf));
    return join({update, request()});
  });
  served("22: 24 0 0 1 0;23:ok;", [this] {
    Buffer out;
    for (int i = 0; i < 3; ++i) {
      out = join({out, record(kHandshake, kKeyUpdateRequested)});
      CHECK(sealer.advance(hkdf));
    }
    return join({out, request()});
  });
}

TEST(tls_bridge_records, a_key_update_may_come_in_pieces) {
  served("22: 24 0 0 1 0;23:ok;", [this] {
    Buffer out;
    for (const unsigned char each : kKeyUpdateRequested)
      out = join({out, record(kHandshake, {each})});
    CHECK(sealer.advance(hkdf));
    return join({out, request()});
  });
}

TEST(tls_bridge_records, other_handshake_messages_are_refused) {
  const Buffer kBad[] = {
      {24, 0, 0, 1, 2},  // a KeyUpdate that asks for something else
      {24, 0, 0, 0},
      {24, 0, 0, 2, 0, 0},
      join({kKeyUpdate, kKeyUpdate}),  // more under the old key
      join({kKeyUpdate, {24}}),
      {1, 0, 0, 1, 0},   // ClientHello: a renegotiation
      {11, 0, 0, 1, 0},  // Certificate: nobody has asked
      {20, 0, 0, 32},    // Finished
      {0, 0, 0, 0},      // HelloRequest
      {11, 255, 255, 255},
      {255, 0, 0, 1, 0},
  };
  for (const Buffer& each : kBad) {
    refused(Alert::kUnexpectedMessage, [&] { return join({record(kHandshake, each), request()}); });
  }
}

TEST(tls_bridge_records, nothing_comes_between_the_pieces_of_a_message) {
  for (const unsigned char type : {kData, kAlert}) {
    refused(Alert::kUnexpectedMessage, [&] {
      return join({record(kHandshake, {24}), record(type, {1, 0}), request()});
    });
  }
  refused(Alert::kUnexpectedMessage, [&] {
    return join({record(kHandshake, {24}), record(kData, {}), request()});
  });
}

TEST(tls_bridge_records, what_is_no_record_is_refused) {
  refused(Alert::kUnexpectedMessage, [] { return hex("14 03 03 00 01 01"); });
  refused(Alert::kUnexpectedMessage, [] { return hex("15 03 03 00 02 01 00"); });
  refused(Alert::kDecodeError, [] { return Buffer{'G', 'E', 'T', ' ', '/'}; });
  refused(Alert::kRecordOverflow, [] { return hex("17 03 03 41 01"); });
  refused(Alert::kBadRecordMac, [] { return hex("17 03 03 00 10"); });
}

TEST(tls_bridge_records, what_is_no_record_of_this_client_is_refused) {
  refused(Alert::kBadRecordMac, [this] {
    Buffer out = request();
    out.back() ^= 1;
    return out;
  });
  refused(Alert::kBadRecordMac, [this] {
    (void)request();
    return request();
  });
  refused(Alert::kBadRecordMac, [this] {
    CHECK(sealer.start(hkdf, parked.server));
    return request();
  });
  refused(Alert::kUnexpectedMessage, [this] { return record(0, {}, 0); });
  refused(Alert::kUnexpectedMessage, [this] { return record(20, {1}); });
  refused(Alert::kUnexpectedMessage, [this] { return record(kAlert, {}); });
  refused(Alert::kDecodeError, [this] { return record(kAlert, {1}); });
  refused(Alert::kDecodeError, [this] { return record(kAlert, {1, 0, 1, 0}); });
}

TEST(tls_bridge_records, a_repeated_record_is_refused) {
  const Heard heard = hear([this] {
    const Buffer once = request();
    return join({once, once});
  });
  STRCMP_EQUAL("GET", heard.by_server.c_str());
  STRCMP_EQUAL("21: 2 20;", heard.by_client.c_str());
}

// As Java says goodbye.
TEST(tls_bridge_records, user_canceled_is_followed_by_the_end) {
  start();
  Process process(servers.get(), parked);
  process.shake_hands();
  STRCMP_EQUAL("", process.hear(record(kAlert, {1, 90})).c_str());
  CHECK(process.good && !process.bridge.client_has_ended());
  POINTERS_EQUAL(nullptr, process.bridge.why_not_park());
  CHECK(process.bridge.from_client(join({record(kAlert, {1, 0}), request()})));
  LONGS_EQUAL(kOverhead + kAlertLength, process.bridge.for_server().size());
  process.give_server();
  STRCMP_EQUAL("", process.server.hear().c_str());
  CHECK(process.good && process.bridge.client_has_ended());
  LONGS_EQUAL(SSL_RECEIVED_SHUTDOWN, SSL_get_shutdown(process.server.ssl()));
}

TEST(tls_bridge_records, an_alert_of_any_other_kind_ends_the_connection) {
  for (const int alert : {10, 20, 40, 50, 80, 255}) {
    const Heard heard = hear([&] {
      return join({record(kAlert, {1, static_cast<unsigned char>(alert)}), request()});
    });
    STRCMP_EQUAL("", heard.by_server.c_str());
    STRCMP_EQUAL("", heard.failure.c_str());
  }
}

TEST(tls_bridge_records, half_a_record_is_not_parked) {
  start();
  Process process(servers.get(), parked);
  STRCMP_EQUAL("it has only just come back", process.bridge.why_not_park());
  process.shake_hands();
  POINTERS_EQUAL(nullptr, process.bridge.why_not_park());
  const Buffer whole = request();
  for (std::size_t i = 0; i + 1 < whole.size(); ++i) {
    STRCMP_EQUAL("", process.hear(ConstBytes(whole).subspan(i, 1)).c_str());
    STRCMP_EQUAL("half a record of the client's", process.bridge.why_not_park());
  }
  STRCMP_EQUAL("GET", process.hear(ConstBytes(whole).last(1)).c_str());
  POINTERS_EQUAL(nullptr, process.bridge.why_not_park());
  (void)process.hear(record(kHandshake, {24}));
  STRCMP_EQUAL("half a record of the client's", process.bridge.why_not_park());
}

TEST(tls_bridge_records, half_a_record_of_the_servers_is_not_parked) {
  start();
  Process process(servers.get(), parked);
  process.shake_hands();
  process.server.say("ok");
  const std::string whole = process.server.take();
  CHECK(process.bridge.from_server(tls_ends::bytes(whole).first(9)));
  STRCMP_EQUAL("half a record of mod_ssl's", process.bridge.why_not_park());
  CHECK(process.bridge.for_client().empty());
  CHECK(process.bridge.from_server(tls_ends::bytes(whole).subspan(9)));
  STRCMP_EQUAL("bytes under way", process.bridge.why_not_park());
  STRCMP_EQUAL("23:ok;", understand(process.for_client()).c_str());
}

TEST(tls_bridge_records, a_worn_key_is_replaced) {
  parked.server.sequence = (std::uint64_t{1} << 24) - 1;
  start();
  Process process(servers.get(), parked);
  process.shake_hands();
  STRCMP_EQUAL("23:one;", understand(process.say("one")).c_str());
  STRCMP_EQUAL("22: 24 0 0 1 0;23:two;", understand(process.say("two")).c_str());
  LONGS_EQUAL(1, process.bridge.state().server.sequence);
  STRCMP_EQUAL("23:three;", understand(process.say("three")).c_str());
}

TEST(tls_bridge_records, a_worn_key_is_replaced_before_what_passes_by) {
  parked.server.sequence = (std::uint64_t{1} << 24) - 1;
  start();
  Process process(servers.get(), parked);
  process.shake_hands();
  STRCMP_EQUAL("23:one;", understand(process.pass_by("one")).c_str());
  STRCMP_EQUAL("22: 24 0 0 1 0;23:two;", understand(process.pass_by("two")).c_str());
  LONGS_EQUAL(1, process.bridge.state().server.sequence);
}

TEST(tls_bridge_records, a_server_whose_records_do_not_open_is_left) {
  start();
  Process process(servers.get(), parked);
  process.shake_hands();
  process.server.say("ok");
  std::string record = process.server.take();
  record.back() = static_cast<char>(record.back() ^ 1);
  CHECK(!process.bridge.from_server(tls_ends::bytes(record)));
  STRCMP_EQUAL("21: 2 80;", understand(process.for_client()).c_str());
}
