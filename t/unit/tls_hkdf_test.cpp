// SPDX-License-Identifier: Apache-2.0
// The key schedule, by the traces of RFC 8448.
#include "mod_linger_tls/layer/hkdf.h"

#include <cstddef>
#include <cstdint>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"
#include "mod_linger_tls/layer/wire.h"
#include "t/unit/tls_bytes.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd::tls;
using namespace tls_bytes;

namespace {

const Buffer kZeros(32);
// SHA-256 of nothing.
const Buffer kNothing =
    hex("e3 b0 c4 42 98 fc 1c 14 9a fb f4 c8 99 6f b9 24 27 ae 41 e4 64 9b 93 4c a4 95 99 1b 78 52 "
        "b8 55");

bool is(const Secret& secret, const char* expected) {
  return same(secret.get(), hex(expected));
}

}  // namespace

TEST_GROUP(tls_hkdf) {
  Hkdf hkdf{*suite_of(0x1301)};
};

// RFC 8448, 3: "extract secret "early"" to "derive secret for handshake "tls13 derived"".
TEST(tls_hkdf, extracts_and_derives) {
  Secret secret;
  CHECK(hkdf.extract(kZeros, kZeros, secret));
  CHECK(is(secret,
           "33 ad 0a 1c 60 7e c0 3b 09 e6 cd 98 93 68 0c e2"
           "10 ad f3 00 aa 1f 26 60 e1 b2 2e 10 f1 70 f9 2a"));
  CHECK(hkdf.expand_label(secret, "derived", kNothing, secret));
  CHECK(is(secret,
           "6f 26 15 a1 08 c7 02 c5 67 8f 54 fc 9d ba b6 97"
           "16 c0 76 18 9c 48 25 0c eb ea c3 57 6c 36 11 ba"));
}

// RFC 8448, 3: "{server} derive write traffic keys for application data".
TEST(tls_hkdf, derives_key_and_iv) {
  const Direction server =
      direction(hex("a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f "
                    "1f 3f cb 63 16 43"));
  Buffer key(16);
  Buffer iv(12);
  CHECK(hkdf.expand_label(server.secret, "key", {}, key));
  CHECK(hkdf.expand_label(server.secret, "iv", {}, iv));
  CHECK(key == hex("9f 02 28 3b 6c 9c 07 ef c2 6b b9 f2 ac 92 e3 56"));
  CHECK(iv == hex("cf 78 2b 88 dd 83 54 9a ad f1 e9 84"));
}

TEST(tls_hkdf, hashes) {
  Buffer out(32);
  CHECK(hkdf.hash({}, out));
  CHECK(out == kNothing);
  Buffer small(31);
  CHECK(!hkdf.hash({}, small));
}

TEST(tls_hkdf, says_what_it_can_not_do) {
  const Direction some = some_direction(hkdf.suite());
  Buffer out(33);
  CHECK(!hkdf.expand_label(some.secret, "key", {}, out));
  out.resize(32);
  CHECK(!hkdf.expand_label(some.secret, "a label longer than any", {}, out));
  CHECK(!hkdf.expand_label(some.secret, "key", Buffer(49), out));
}

TEST(tls_hkdf, the_next_secret_counts_from_zero) {
  Direction some = some_direction(hkdf.suite());
  const Secret before = some.secret;
  some.sequence = 7;
  CHECK(hkdf.advance(some));
  LONGS_EQUAL(0, some.sequence);
  LONGS_EQUAL(32, some.secret.size());
  CHECK(!same(before.get(), some.secret.get()));
}

TEST(tls_hkdf, knows_the_suites_that_it_knows) {
  CHECK(suite_of(0x1302) != nullptr && suite_of(0x1303) != nullptr);
  for (const int other : {0, 0x1300, 0x1304, 0x1305, 0xC02F}) {
    POINTERS_EQUAL(nullptr, suite_of(static_cast<std::uint16_t>(other)));
  }
}
