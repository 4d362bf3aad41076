// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/layer/protection.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/hkdf.h"
#include "mod_linger_tls/layer/record.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"
#include "t/unit/tls_bytes.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd::tls;
using namespace tls_bytes;

namespace {

constexpr std::uint16_t kIds[] = {0x1301, 0x1302, 0x1303};

// RFC 8448, 3: "{client|server} derive write traffic keys for application data".
const Buffer kClientSecret =
    hex("9e 40 64 6c e7 9a 7f 9d c0 5a f8 88 9b ce 65 52 87 5a fa 0b 06 df 00 87 f7 92 eb b7 c1 75 "
        "04 a5");
const Buffer kServerSecret =
    hex("a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f cb 63 "
        "16 43");
// "{client} send application_data record", and so on.
const Buffer kClientData = hex(
    "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 bc ab"
    "3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d"
    "ea e6 3a ee bb 21 69 49 15 e4");
const Buffer kServerData = hex(
    "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f 82 aa 1b"
    "36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2 1c 00 47 c2 ab f3"
    "32 54 0d d0 32 e1 67 c2 95 5d");
const Buffer kClientAlert =
    hex("17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3");
const Buffer kServerAlert =
    hex("17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9");

Buffer payload(std::size_t length = 50) {
  Buffer out(length);
  std::iota(out.begin(), out.end(), static_cast<unsigned char>(0));
  return out;
}

}  // namespace

TEST_GROUP(tls_protection) {
  Hkdf hkdf{*suite_of(0x1301)};
  RecordSealer sealer;
  RecordOpener opener;
  Buffer out = Buffer(kMaxRecord + 2);

  void opens_with(const Buffer& record, const Buffer& content, unsigned char type) {
    const RecordOpener::Opened opened = opener.open(record, out);
    CHECK(opened.good);
    LONGS_EQUAL(type, static_cast<unsigned char>(opened.type));
    CHECK(Buffer(out.begin(), out.begin() + static_cast<long>(opened.length)) == content);
  }
  void refuses(const Buffer& record, Alert alert) {
    const RecordOpener::Opened opened = opener.open(record, out);
    CHECK(!opened.good);
    LONGS_EQUAL(static_cast<int>(alert), static_cast<int>(opened.alert));
    for (const unsigned char each : out) BYTES_EQUAL(0, each);
  }
  void start(std::uint64_t sequence = 0) {
    Direction both = some_direction(hkdf.suite());
    both.sequence = sequence;
    CHECK(sealer.start(hkdf, both));
    CHECK(opener.start(hkdf, both));
    out.assign(out.size(), 0);
  }
};

TEST(tls_protection, opens_the_records_of_rfc_8448) {
  CHECK(opener.start(hkdf, direction(kClientSecret)));
  opens_with(kClientData, payload(), kData);
  opens_with(kClientAlert, {1, 0}, kAlert);
  // The server has sent a ticket before.
  CHECK(opener.start(hkdf, direction(kServerSecret, 1)));
  opens_with(kServerData, payload(), kData);
  opens_with(kServerAlert, {1, 0}, kAlert);
}

TEST(tls_protection, seals_the_records_of_rfc_8448) {
  CHECK(sealer.start(hkdf, direction(kServerSecret, 1)));
  CHECK(record_of(sealer, kData, payload()) == kServerData);
  CHECK(record_of(sealer, kAlert, {1, 0}) == kServerAlert);
  LONGS_EQUAL(3, sealer.direction().sequence);
}

TEST(tls_protection, opens_what_it_seals_in_each_suite) {
  for (const std::uint16_t id : kIds) {
    Hkdf own(*suite_of(id));
    const Direction both = some_direction(own.suite());
    CHECK(sealer.start(own, both));
    CHECK(opener.start(own, both));
    for (const std::size_t length : {0, 1, 15, 16, 17, 5'000, int{kMaxContent}}) {
      opens_with(record_of(sealer, kData, payload(length)), payload(length), kData);
    }
    CHECK(sealer.advance(own));
    CHECK(opener.advance(own));
    LONGS_EQUAL(0, sealer.direction().sequence);
    opens_with(record_of(sealer, kHandshake, {1}), {1}, kHandshake);
  }
}

TEST(tls_protection, opens_where_the_record_lies) {
  start();
  Buffer record = record_of(sealer, kData, payload());
  CHECK(opener.open(record, Bytes(record).subspan(kHeaderLength)).good);
  CHECK(Buffer(record.begin() + kHeaderLength, record.begin() + kHeaderLength + 50) == payload());
}

TEST(tls_protection, padding_is_taken_off) {
  start();
  opens_with(record_of(sealer, kData, payload(), 1), payload(), kData);
  opens_with(record_of(sealer, kData, payload(), 200), payload(), kData);
  opens_with(record_of(sealer, kData, {}, 40), {}, kData);
  opens_with(record_of(sealer, kData, {0, 0}, 3), {0, 0}, kData);
  opens_with(record_of(sealer, kAlert, {1, 0}, kMaxContent - 2), {1, 0}, kAlert);
}

TEST(tls_protection, a_record_with_any_bit_changed_is_refused) {
  start();
  const Buffer good = record_of(sealer, kData, payload(20));
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
    start();
    Buffer changed = good;
    changed[bit / 8] ^= static_cast<unsigned char>(1 << bit % 8);
    refuses(changed, Alert::kBadRecordMac);
  }
}

TEST(tls_protection, a_record_of_any_other_length_is_refused) {
  start();
  const Buffer good = record_of(sealer, kData, payload(3));
  for (std::size_t length = 0; length < good.size(); ++length) {
    start();
    refuses(Buffer(good.begin(), good.begin() + static_cast<long>(length)), Alert::kBadRecordMac);
  }
  Buffer longer = good;
  longer.push_back(0);
  start();
  refuses(longer, Alert::kBadRecordMac);
}

TEST(tls_protection, a_record_is_opened_in_its_place_only) {
  start();
  const Buffer first = record_of(sealer, kData, payload());
  const Buffer second = record_of(sealer, kData, payload());
  refuses(second, Alert::kBadRecordMac);
  start();
  opens_with(first, payload(), kData);
  out.assign(out.size(), 0);
  refuses(first, Alert::kBadRecordMac);
}

TEST(tls_protection, a_record_of_nothing_but_padding_is_refused) {
  for (const std::size_t zeros : {1, 2, 100}) {
    start();
    refuses(record_of(sealer, 0, Buffer(zeros - 1)), Alert::kUnexpectedMessage);
  }
}

TEST(tls_protection, a_record_of_no_type_that_may_be_encrypted_is_refused) {
  for (int type = 1; type < 256; ++type) {
    if (type == kData || type == kAlert || type == kHandshake) continue;
    start();
    refuses(record_of(sealer, static_cast<unsigned char>(type), {1}), Alert::kUnexpectedMessage);
  }
}

TEST(tls_protection, alert_and_handshake_without_content_are_refused) {
  for (const std::size_t padding : {0, 1, 10}) {
    for (const unsigned char type : {kAlert, kHandshake}) {
      start();
      refuses(record_of(sealer, type, {}, padding), Alert::kUnexpectedMessage);
    }
  }
}

TEST(tls_protection, more_content_than_there_may_be_is_refused) {
  start();
  Buffer record(kOverhead + kMaxContent + 1);
  CHECK(!sealer.seal(ContentType::kApplicationData, kMaxContent + 1, record));
  // Padding counts (RFC 8446, 5.4).
  Buffer inner = payload(kMaxContent);
  inner.push_back(kData);
  start();
  opens_with(record_around(hkdf, sealer.direction().secret, inner), payload(kMaxContent), kData);
  inner[10] = kData;
  std::fill(inner.begin() + 11, inner.end(), static_cast<unsigned char>(0));
  start();
  opens_with(record_around(hkdf, sealer.direction().secret, inner), payload(10), kData);
  inner.push_back(0);
  start();
  refuses(record_around(hkdf, sealer.direction().secret, inner), Alert::kRecordOverflow);
}

TEST(tls_protection, a_buffer_that_is_too_small_is_refused) {
  start();
  const Buffer record = record_of(sealer, kData, payload(20));
  Buffer small(20);
  CHECK(!opener.open(record, small).good);
  Buffer none(kOverhead + 19);
  CHECK(!sealer.seal(ContentType::kApplicationData, 20, none));
}

TEST(tls_protection, the_last_number_is_never_used) {
  start(std::numeric_limits<std::uint64_t>::max() - 1);
  opens_with(record_of(sealer, kData, payload()), payload(), kData);
  CHECK(record_of(sealer, kData, payload()).empty());
  CHECK(record_of(sealer, kData, payload()).empty());
}

TEST(tls_protection, a_key_is_worn_after_as_many_records_as_its_cipher_bears) {
  start((std::uint64_t{1} << 24) - 1);
  CHECK(!sealer.is_worn(hkdf.suite()));
  record_of(sealer, kData, payload());
  CHECK(sealer.is_worn(hkdf.suite()));
  CHECK(sealer.advance(hkdf));
  CHECK(!sealer.is_worn(hkdf.suite()));
}

TEST(tls_protection, nothing_is_sealed_or_opened_without_a_key) {
  CHECK(record_of(sealer, kData, payload()).empty());
  CHECK(!opener.open(kClientData, out).good);
  start();
  const Buffer record = record_of(sealer, kData, payload());
  sealer.wipe();
  opener.wipe();
  CHECK(record_of(sealer, kData, payload()).empty());
  CHECK(!opener.open(record, out).good);
  CHECK(!sealer.advance(hkdf));
  CHECK(sealer.direction().secret.empty());
}

TEST(tls_protection, a_secret_of_another_suite_is_refused) {
  CHECK(!sealer.start(hkdf, some_direction(*suite_of(0x1302))));
  CHECK(!opener.start(hkdf, Direction{}));
}
