// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/layer/state.h"

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"
#include "mod_linger_tls/layer/wire.h"
#include "t/unit/tls_bytes.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd::tls;
using namespace tls_bytes;

namespace {

const Buffer kBoundTo = hex("00 01 02 03");

TlsState some_state(std::uint16_t suite = 0x1301) {
  TlsState out;
  out.suite = suite;
  out.client = some_direction(*suite_of(suite), 1);
  out.client.sequence = 3;
  out.server = some_direction(*suite_of(suite), 100);
  out.server.sequence = std::uint64_t{1} << 40;
  out.trips = 70'000;
  out.secure_renegotiation = suite != 0x1302;
  out.late_authentication = suite != 0x1303;
  out.client_rules = 0x12345678;
  out.server_name = "www.example.org";
  out.alpn = "http/1.1";
  out.session = hex("30 03 02 01 05");
  return out;
}

bool equal(const TlsState& one, const TlsState& other) {
  return one.suite == other.suite && one.trips == other.trips &&
         one.secure_renegotiation == other.secure_renegotiation &&
         one.late_authentication == other.late_authentication &&
         one.client_rules == other.client_rules &&
         same(one.client.secret.get(), other.client.secret.get()) &&
         same(one.server.secret.get(), other.server.secret.get()) &&
         one.client.sequence == other.client.sequence &&
         one.server.sequence == other.server.sequence && one.server_name == other.server_name &&
         one.alpn == other.alpn && one.session == other.session;
}

Buffer encoded(const TlsState& state) {
  Buffer out(kMaxState);
  out.resize(encode(state, out));
  return out;
}

Buffer sealed(const TlsState& state, const SealKey& key = {1, 2, 3}) {
  Buffer out(kMaxSealedState);
  out.resize(seal(state, key, kBoundTo, out));
  return out;
}

}  // namespace

TEST_GROUP(tls_state) {
  TlsState back;
};

TEST(tls_state, is_read_as_it_was_written) {
  for (const std::uint16_t suite : {0x1301, 0x1302, 0x1303}) {
    CHECK(decode(encoded(some_state(suite)), back));
    CHECK(equal(back, some_state(suite)));
  }
  TlsState bare = some_state();
  bare.server_name.clear();
  bare.alpn.clear();
  CHECK(decode(encoded(bare), back));
  CHECK(equal(back, bare));
  bare.server_name.assign(255, 'n');
  bare.alpn.assign(255, 'a');
  bare.session.assign(3'000, 9);
  CHECK(decode(encoded(bare), back));
  CHECK(equal(back, bare));
}

TEST(tls_state, is_not_read_if_a_byte_is_missing_or_too_many) {
  const Buffer whole = encoded(some_state());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CHECK(!decode(ConstBytes(whole).first(length), back));
  }
  Buffer longer = whole;
  longer.push_back(0);
  CHECK(!decode(longer, back));
}

TEST(tls_state, is_not_written_if_it_can_not_be_read_or_is_too_long) {
  const auto refused = [](auto change) {
    TlsState state = some_state();
    change(state);
    return encoded(state).empty() && sealed(state).empty();
  };
  CHECK(refused([](TlsState& s) { s.suite = 0x1304; }));
  CHECK(refused([](TlsState& s) { s.suite = 0x1302; }));
  CHECK(refused([](TlsState& s) { s.client.secret = {}; }));
  CHECK(refused([](TlsState& s) { s.server_name.assign(256, 'n'); }));
  CHECK(refused([](TlsState& s) { s.alpn.assign(256, 'n'); }));
  CHECK(refused([](TlsState& s) { s.session.assign(kMaxState, 1); }));
  CHECK(refused([](TlsState& s) { s.session.assign(100'000, 1); }));
}

TEST(tls_state, is_opened_by_the_key_and_for_what_it_was_sealed_for) {
  const Buffer box = sealed(some_state());
  CHECK(unseal(box, {1, 2, 3}, kBoundTo, back));
  CHECK(equal(back, some_state()));
  CHECK(!unseal(box, {1, 2, 4}, kBoundTo, back));
  CHECK(!unseal(box, {1, 2, 3}, hex("00 01 02 04"), back));
  CHECK(!unseal(box, {1, 2, 3}, hex("00 01 02"), back));
  CHECK(!unseal(box, {1, 2, 3}, {}, back));
}

TEST(tls_state, is_not_opened_if_any_bit_is_changed) {
  const Buffer box = sealed(some_state());
  for (std::size_t bit = 0; bit < 8 * box.size(); ++bit) {
    Buffer changed = box;
    changed[bit / 8] ^= static_cast<unsigned char>(1 << bit % 8);
    CHECK(!unseal(changed, {1, 2, 3}, kBoundTo, back));
  }
  for (std::size_t length = 0; length < box.size(); ++length) {
    CHECK(!unseal(ConstBytes(box).first(length), {1, 2, 3}, kBoundTo, back));
  }
  CHECK(!unseal(Buffer(kMaxSealedState + 1, 1), {1, 2, 3}, kBoundTo, back));
}

TEST(tls_state, is_never_sealed_alike) {
  std::set<Buffer> boxes;
  for (int i = 0; i < 100; ++i) CHECK(boxes.insert(sealed(some_state())).second);
}

TEST(tls_state, nothing_of_it_can_be_read_in_the_seal) {
  const Buffer box = sealed(some_state());
  const std::string_view text(reinterpret_cast<const char*>(box.data()), box.size());
  CHECK(text.find("example") == std::string_view::npos);
  CHECK(text.find("\x01\x02\x03\x04") == std::string_view::npos);
  LONGS_EQUAL(encoded(some_state()).size() + kSealOverhead, box.size());
}

TEST(tls_state, fills_the_largest_slot_to_the_last_byte) {
  TlsState state = some_state();
  state.session.assign(kMaxState - encoded(state).size() + state.session.size(), 5);
  const Buffer box = sealed(state);
  LONGS_EQUAL(kMaxSealedState, box.size());
  CHECK(unseal(box, {1, 2, 3}, kBoundTo, back));
  Buffer small(kMaxSealedState - 1);
  LONGS_EQUAL(0, seal(state, {1, 2, 3}, kBoundTo, small));
}
