// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/tap.h"

#include <openssl/ssl3.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "mod_linger_tls/last_record.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/hkdf.h"
#include "mod_linger_tls/layer/protection.h"
#include "mod_linger_tls/layer/record.h"
#include "mod_linger_tls/layer/suite.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd::tls;

namespace {

constexpr std::uint16_t kSuite = 0x1301;

using Message = std::vector<unsigned char>;

void append(Message& to, const Message& more) {
  to.insert(to.end(), more.begin(), more.end());
}

// With these extensions, each its type, and two bytes in it.
Message client_hello(const std::vector<unsigned>& extensions) {
  Message listed;
  for (const unsigned type : extensions) {
    append(listed, {static_cast<unsigned char>(type >> 8), static_cast<unsigned char>(type), 0, 2,
                    0xaa, 0xbb});
  }
  Message body{3, 3};
  body.resize(34);
  append(body, {4, 1, 2, 3, 4});           // session id
  append(body, {0, 2, 0x13, 0x01, 1, 0});  // a cipher, no compression
  append(body, {static_cast<unsigned char>(listed.size() >> 8),
                static_cast<unsigned char>(listed.size())});
  append(body, listed);
  Message out{1, 0, 0, static_cast<unsigned char>(body.size())};
  append(out, body);
  return out;
}

}  // namespace

TEST_GROUP(tls_tap) {
  Tap tap;
  const Message record{23, 3, 3, 0, 40};
  const Message other_record{22, 3, 3, 0, 40};

  void note(bool written, int type, const Message& bytes) {
    tap.note_message(written, type, bytes, kSuite);
  }
  void finish_handshake() {
    note(false, SSL3_RT_HANDSHAKE, client_hello({43}));
    for (const bool written : {true, false}) {
      note(written, SSL3_RT_HEADER, record);  // under the handshake's keys
      note(written, SSL3_RT_HANDSHAKE, {SSL3_MT_FINISHED, 0, 0, 0});
    }
    const std::string random(64, '0');
    tap.note_log_line("CLIENT_TRAFFIC_SECRET_0 " + random + " " + std::string(64, 'a'));
    tap.note_log_line("SERVER_TRAFFIC_SECRET_0 " + random + " " + std::string(64, 'B'));
  }
};

TEST(tls_tap, counts_records_from_finished_on) {
  CHECK(!tap.is_open());
  finish_handshake();
  CHECK(tap.is_open());
  note(true, SSL3_RT_HEADER, record);
  note(true, SSL3_RT_HEADER, record);
  note(false, SSL3_RT_HEADER, record);
  note(false, SSL3_RT_HEADER, other_record);  // ChangeCipherSpec, say: not under a key
  UNSIGNED_LONGS_EQUAL(2, tap.server().sequence);
  UNSIGNED_LONGS_EQUAL(1, tap.client().sequence);
  UNSIGNED_LONGS_EQUAL(32, tap.client().secret.size());
  CHECK(tap.client().secret.get()[0] == 0xaa && tap.server().secret.get()[31] == 0xbb);
  CHECK(tap.strange() == nullptr && !tap.has_alert());
}

TEST(tls_tap, goes_on_with_new_keys) {
  finish_handshake();
  note(false, SSL3_RT_HEADER, record);
  note(false, SSL3_RT_HANDSHAKE, {SSL3_MT_KEY_UPDATE, 0, 0, 1, 0});
  UNSIGNED_LONGS_EQUAL(0, tap.client().sequence);
  CHECK(tap.client().secret.get()[0] != 0xaa);
  CHECK(tap.server().secret.get()[0] == 0xbb);
  CHECK(tap.strange() == nullptr);
}

TEST(tls_tap, a_ticket_is_nothing_strange) {
  finish_handshake();
  note(true, SSL3_RT_HANDSHAKE, {SSL3_MT_NEWSESSION_TICKET, 0, 0, 0});
  CHECK(tap.strange() == nullptr);
}

// A second Finished is one of them: of a client that was asked for its certificate.
TEST(tls_tap, what_it_does_not_follow_is_strange) {
  for (const int type : {SSL3_MT_FINISHED, SSL3_MT_CERTIFICATE, SSL3_MT_CERTIFICATE_REQUEST, 99}) {
    tap = Tap();
    finish_handshake();
    note(false, SSL3_RT_HEADER, record);
    note(false, SSL3_RT_HANDSHAKE, {static_cast<unsigned char>(type), 0, 0, 0});
    CHECK(tap.strange() != nullptr);
    UNSIGNED_LONGS_EQUAL(1, tap.client().sequence);
  }
}

TEST(tls_tap, early_data_is_strange) {
  tap.note_log_line("CLIENT_EARLY_TRAFFIC_SECRET 00 00");
  CHECK(tap.strange() != nullptr);
}

TEST(tls_tap, a_key_log_of_another_form_is_strange) {
  for (const char* secret : {"", "abc", "zz", "0g"}) {
    tap = Tap();
    tap.note_log_line(std::string("CLIENT_TRAFFIC_SECRET_0 00 ") + secret);
    CHECK(tap.strange() != nullptr);
  }
  tap = Tap();
  tap.note_log_line("SERVER_TRAFFIC_SECRET_0 00 " + std::string(2 * 49, '0'));
  CHECK(tap.strange() != nullptr);
}

TEST(tls_tap, an_alert_of_either_side) {
  finish_handshake();
  note(true, SSL3_RT_ALERT, {1, 0});
  CHECK(tap.has_alert());
}

TEST(tls_tap, nothing_is_left_of_secrets) {
  finish_handshake();
  tap.wipe();
  CHECK(tap.client().secret.empty() && tap.server().secret.empty());
}

TEST(tls_tap, late_authentication_is_an_extension) {
  CHECK(!offers_post_handshake_auth(client_hello({43, 51, 10})));
  CHECK(!offers_post_handshake_auth(client_hello({})));
  CHECK(offers_post_handshake_auth(client_hello({43, 49, 10})));
  Message cut = client_hello({43, 51, 49});
  while (cut.size() > 1) {
    cut.pop_back();
    // Without any extensions it is whole; else what can't be read may have it.
    CHECK(offers_post_handshake_auth(cut) == (cut.size() != 4 + 34 + 5 + 6));
  }
}

TEST_GROUP(last_record) {
  const Suite& suite = *suite_of(kSuite);
  Hkdf hkdf{suite};
  Direction direction;
  RecordSealer sealer;
  LastRecord last;

  void setup() override {
    const Bytes secret = direction.secret.reset(suite.hash_length);
    for (unsigned char& byte : secret) byte = 0x5a;
    CHECK(sealer.start(hkdf, direction));
  }
  Message record(std::size_t length) {
    Message out(kOverhead + length, 'x');
    CHECK(sealer.seal(ContentType::kApplicationData, length, out));
    return out;
  }
  // Before the record with this number, as the tap would say.
  bool is_before(std::uint64_t sequence) {
    Direction next = direction;
    next.sequence = sequence;
    return last.is_before(next, suite);
  }
};

TEST(last_record, it_opens_with_the_number_before) {
  last.follow(Message{22, 3, 1, 0, 2, 1, 1});  // of an older version, as a ClientHello
  for (std::uint64_t next = 1; next <= 3; ++next) {
    last.follow(record(100));
    CHECK(is_before(next));
    CHECK(!is_before(next + 1));
    CHECK(!is_before(next - 1));
  }
}

TEST(last_record, however_it_comes) {
  Message bytes = record(10);
  append(bytes, record(16'384));
  append(bytes, record(0));
  for (const unsigned char byte : bytes) last.follow({&byte, 1});
  CHECK(is_before(3));
  CHECK(!is_before(2));
}

TEST(last_record, half_of_one_is_none) {
  const Message first = record(10);
  const Message second = record(10);
  last.follow(first);
  last.follow(ConstBytes(second).first(second.size() - 1));
  CHECK(!is_before(1));
  CHECK(!is_before(2));
  last.follow(ConstBytes(second).last(1));
  CHECK(is_before(2));
}

TEST(last_record, nor_is_none) {
  CHECK(!is_before(0));
  CHECK(!is_before(1));
}
