// SPDX-License-Identifier: Apache-2.0
#include "lingerd/record.h"

#include <algorithm>
#include <bit>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "t/unit/bytes.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;

namespace {

constexpr Handoff kHandoff{RecordKind::kLinger, 5'000, 30'000, 123'456'789'012'345};

Record good_record() {
  return encode(kHandoff);
}

DecodeResult decode_record(const Record& record) {
  Handoff out;
  return decode(bytes_of(record), out);
}

void check_result(DecodeResult expected, DecodeResult got) {
  STRCMP_EQUAL(std::string(describe(expected)).c_str(), std::string(describe(got)).c_str());
}

}  // namespace

TEST_GROUP(Record){};

TEST(Record, comes_back_as_it_was_sent) {
  Handoff out{RecordKind::kLinger, 1, 2, 3};
  check_result(DecodeResult::kOk, decode(bytes_of(good_record()), out));
  CHECK(out.kind == RecordKind::kLinger);
  LONGS_EQUAL(5'000, out.idle_ms);
  LONGS_EQUAL(30'000, out.cap_ms);
  UNSIGNED_LONGLONGS_EQUAL(123'456'789'012'345, out.handed_off_ns);
}

TEST(Record, carries_nothing_but_what_it_says) {
  const Record record = good_record();
  LONGS_EQUAL(64, record.size);
  LONGS_EQUAL(1, record.version);
  LONGS_EQUAL(0, record.flags);
  for (const std::uint64_t word : record.reserved) UNSIGNED_LONGLONGS_EQUAL(0, word);
}

TEST(Record, tells_of_fallbacks) {
  Handoff handoff = kHandoff;
  handoff.fallbacks = 4'000'000'000U;
  Handoff out;
  check_result(DecodeResult::kOk, decode(bytes_of(encode(handoff)), out));
  UNSIGNED_LONGS_EQUAL(4'000'000'000U, out.fallbacks);
}

TEST(Record, begins_with_its_magic_version_and_size_as_the_contract_says) {
  const auto bytes = bytes_of(good_record());
  const unsigned char head[] = {0x52, 0x47, 0x4e, 0x4c, 1, 0, 64, 0};
  if constexpr (std::endian::native == std::endian::little) {
    MEMCMP_EQUAL(head, bytes.data(), sizeof head);
  }
}

TEST(Record, is_read_at_any_alignment) {
  const auto bytes = bytes_of(good_record());
  for (std::size_t offset = 0; offset < 16; ++offset) {
    std::vector<std::byte> moved(offset);
    moved.insert(moved.end(), bytes.begin(), bytes.end());
    Handoff out;
    check_result(DecodeResult::kOk, decode(std::span(moved).subspan(offset), out));
    LONGS_EQUAL(30'000, out.cap_ms);
  }
}

TEST(Record, too_short_for_a_head_is_truncated) {
  const auto bytes = bytes_of(good_record());
  for (std::size_t length = 0; length < 8; ++length) {
    // A copy of just that length: a sanitizer sees a read beyond it.
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<long>(length));
    Handoff out;
    check_result(DecodeResult::kTruncated, decode(cut, out));
  }
}

TEST(Record, of_any_other_length_has_the_wrong_size) {
  const auto bytes = bytes_of(good_record());
  for (std::size_t length = 8; length <= 200; ++length) {
    if (length == bytes.size()) continue;
    std::vector<std::byte> other(bytes.begin(),
                                 bytes.begin() + static_cast<long>(std::min(length, bytes.size())));
    other.resize(length);
    Handoff out;
    check_result(DecodeResult::kWrongSize, decode(other, out));
  }
}

TEST(Record, that_states_another_size_is_refused) {
  for (const std::uint16_t size : {0, 63, 65, 128, 65535}) {
    Record record = good_record();
    record.size = size;
    check_result(DecodeResult::kWrongSize, decode_record(record));
  }
}

TEST(Record, with_another_magic_is_no_record) {
  for (const std::uint32_t magic : {0U, kRecordMagic + 1, kGreetingMagic, ~kRecordMagic}) {
    Record record = good_record();
    record.magic = magic;
    check_result(DecodeResult::kWrongMagic, decode_record(record));
  }
}

TEST(Record, of_an_older_version_is_named_so) {
  Record record = good_record();
  record.version = 0;
  check_result(DecodeResult::kOlderVersion, decode_record(record));
}

TEST(Record, of_a_future_version_is_named_so_whatever_its_size) {
  for (const std::uint16_t version : {2, 3, 65535}) {
    Record record = good_record();
    record.version = version;
    record.size = 96;
    check_result(DecodeResult::kFutureVersion, decode_record(record));
    auto longer = bytes_of(record);
    longer.resize(96);
    Handoff out;
    check_result(DecodeResult::kFutureVersion, decode(longer, out));
    longer.resize(8);
    check_result(DecodeResult::kFutureVersion, decode(longer, out));
  }
}

TEST(Record, of_an_unknown_kind_is_refused) {
  for (const std::uint16_t kind : {0, 2, 3, 65535}) {
    Record record = good_record();
    record.kind = static_cast<RecordKind>(kind);
    check_result(DecodeResult::kUnknownKind, decode_record(record));
  }
}

TEST(Record, takes_durations_from_a_millisecond_to_an_hour) {
  for (const std::uint32_t ms : {1U, 2U, kMaxDurationMs - 1, kMaxDurationMs}) {
    Record record = good_record();
    record.idle_ms = ms;
    check_result(DecodeResult::kOk, decode_record(record));
    record.idle_ms = 1;
    record.cap_ms = ms;
    check_result(DecodeResult::kOk, decode_record(record));
  }
  for (const std::uint32_t ms : {0U, kMaxDurationMs + 1, 0x7fffffffU, 0xffffffffU}) {
    Record record = good_record();
    record.idle_ms = ms;
    check_result(DecodeResult::kBadDuration, decode_record(record));
    record = good_record();
    record.cap_ms = ms;
    check_result(DecodeResult::kBadDuration, decode_record(record));
  }
}

TEST(Record, that_is_refused_leaves_the_result_alone) {
  Record record = good_record();
  record.cap_ms = 0;
  Handoff out{RecordKind::kLinger, 7, 8, 9};
  check_result(DecodeResult::kBadDuration, decode(bytes_of(record), out));
  LONGS_EQUAL(7, out.idle_ms);
  LONGS_EQUAL(8, out.cap_ms);
  UNSIGNED_LONGLONGS_EQUAL(9, out.handed_off_ns);
}

TEST(Record, each_result_is_described_in_words_of_its_own) {
  using enum DecodeResult;
  std::set<std::string_view> words;
  for (const DecodeResult result : {kOk, kTruncated, kWrongMagic, kOlderVersion, kFutureVersion,
                                    kWrongSize, kUnknownKind, kBadDuration}) {
    CHECK(!describe(result).empty());
    words.insert(describe(result));
  }
  LONGS_EQUAL(8, words.size());
}

TEST_GROUP(Greeting){static GreetingResult decoded(const Greeting& greeting){
    return decode_greeting(bytes_of(greeting));
}
}
;

TEST(Greeting, says_its_verdict) {
  Greeting greeting;
  CHECK(decoded(greeting) == GreetingResult::kWelcome);
  greeting.verdict = Verdict::kDenied;
  CHECK(decoded(greeting) == GreetingResult::kDenied);
  greeting.verdict = Verdict::kFull;
  CHECK(decoded(greeting) == GreetingResult::kFull);
}

TEST(Greeting, of_another_version_is_not_taken_for_a_verdict) {
  for (const std::uint16_t version : {0, 2, 65535}) {
    Greeting greeting;
    greeting.version = version;
    CHECK(decoded(greeting) == GreetingResult::kOtherVersion);
  }
}

TEST(Greeting, that_is_none_is_garbage) {
  Greeting greeting;
  greeting.magic = kRecordMagic;
  CHECK(decoded(greeting) == GreetingResult::kGarbage);
  greeting = {};
  greeting.verdict = static_cast<Verdict>(3);
  CHECK(decoded(greeting) == GreetingResult::kGarbage);
  auto bytes = bytes_of(Greeting{});
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<long>(length));
    CHECK(decode_greeting(cut) == GreetingResult::kGarbage);
  }
}
