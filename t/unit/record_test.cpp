// SPDX-License-Identifier: Apache-2.0
#include "contract/record.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
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
  LONGS_EQUAL(0, record.fallbacks);
  LONGS_EQUAL(0, record.keepalives);
  UNSIGNED_LONGLONGS_EQUAL(0, record.ticket);
  UNSIGNED_LONGLONGS_EQUAL(0, record.content_offset);
  UNSIGNED_LONGLONGS_EQUAL(0, record.content_length);
  LONGS_EQUAL(0, record.stall_ms);
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
  for (const std::uint16_t kind : {0, 3, 7, 65535}) {
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
                                    kWrongSize, kUnknownKind, kBadDuration, kBadContent}) {
    CHECK(!describe(result).empty());
    words.insert(describe(result));
  }
  LONGS_EQUAL(9, words.size());
}

namespace {

Record delivery_record() {
  Handoff handoff = kHandoff;
  handoff.kind = RecordKind::kDeliver;
  handoff.content_offset = 70'000;
  handoff.content_length = 3'000'000'000;
  handoff.stall_ms = 60'000;
  return encode(handoff);
}

}  // namespace

TEST(Record, of_a_delivery_says_where_the_rest_is) {
  Handoff out;
  check_result(DecodeResult::kOk, decode(bytes_of(delivery_record()), out));
  CHECK(out.kind == RecordKind::kDeliver);
  UNSIGNED_LONGLONGS_EQUAL(70'000, out.content_offset);
  UNSIGNED_LONGLONGS_EQUAL(3'000'000'000, out.content_length);
  LONGS_EQUAL(60'000, out.stall_ms);
  LONGS_EQUAL(30'000, out.cap_ms);
}

namespace {

Record request_record(RequestPart part) {
  Handoff handoff = kHandoff;
  handoff.kind = RecordKind::kRequest;
  handoff.stall_ms = 20'000;
  handoff.keepalives = 3;
  handoff.ticket = 99;
  const bool is_body = part != RequestPart::kHead;
  handoff.awaited = {part, is_body ? 700U : 0U, is_body ? 500U : 0U, 100'000, 77};
  return encode(handoff);
}

}  // namespace

TEST(Record, of_a_request_says_what_is_waited_for) {
  for (const auto part : {RequestPart::kHead, RequestPart::kBytes, RequestPart::kChunks}) {
    Handoff out;
    check_result(DecodeResult::kOk, decode(bytes_of(request_record(part)), out));
    const bool is_body = part != RequestPart::kHead;
    CHECK(out.kind == RecordKind::kRequest && out.awaited.part == part);
    LONGS_EQUAL(20'000, out.stall_ms);
    LONGS_EQUAL(3, out.keepalives);
    LONGS_EQUAL(99, out.ticket);
    LONGS_EQUAL(is_body ? 700 : 0, out.awaited.body_at);
    LONGS_EQUAL(is_body ? 500 : 0, out.awaited.min_rate);
    LONGS_EQUAL(100'000, out.awaited.most);
    LONGS_EQUAL(77, out.awaited.longest_s);
    CHECK(waited_for_by(out) == (is_body ? WaitedFor::kBody : WaitedFor::kHead));
  }
}

TEST(Record, of_a_request_needs_something_to_wait_for) {
  const auto refused = [](RequestPart part, auto change) {
    Record record = request_record(part);
    change(record);
    check_result(DecodeResult::kBadContent, decode_record(record));
  };
  for (const std::uint16_t part : {0, 4, 65532}) {
    refused(RequestPart::kHead, [part](Record& r) { r.flags = part; });
  }
  for (const auto part : {RequestPart::kHead, RequestPart::kBytes, RequestPart::kChunks}) {
    refused(part, [](Record& r) { r.content_length = 0; });
    refused(part, [](Record& r) { r.content_length = kMaxContent + 1; });
  }
  refused(RequestPart::kHead, [](Record& r) { r.content_offset = 1; });
  refused(RequestPart::kBytes, [](Record& r) { r.content_offset &= 0xffffffff; });
  refused(RequestPart::kBytes, [](Record& r) { r.content_offset &= ~std::uint64_t{0xffffffff}; });
  refused(RequestPart::kChunks, [](Record& r) { r.content_length = 699; });
}

TEST(Record, of_a_return_says_what_has_come) {
  const Return back{7, 20'000, 1'000, 99, WaitedFor::kBody, Outcome::kTimedOut};
  Return out;
  CHECK(decode(bytes_of(encode_gathered(back)), out));
  CHECK(out.waited_for == WaitedFor::kBody && out.outcome == Outcome::kTimedOut);
  LONGS_EQUAL(7, out.keepalives);
  LONGS_EQUAL(99, out.tag);
  CHECK(decode(bytes_of(encode(back)), out));  // of an idle connection
  CHECK(out.waited_for == WaitedFor::kNextRequest && out.outcome == Outcome::kCame);
  GatheredRecord record = encode_gathered(back);
  record.waited_for = WaitedFor::kNextRequest;
  CHECK(!decode(bytes_of(record), out));
  record = encode_gathered(back);
  record.outcome = static_cast<Outcome>(3);
  CHECK(!decode(bytes_of(record), out));
  record = encode_gathered(back);
  record.back.magic = kReturnMagic;
  CHECK(!decode(bytes_of(record), out));
}

TEST(Record, of_a_delivery_needs_something_to_deliver) {
  for (const std::uint64_t length : {std::uint64_t{0}, kMaxContent + 1, ~std::uint64_t{0}}) {
    Record record = delivery_record();
    record.content_length = length;
    check_result(DecodeResult::kBadContent, decode_record(record));
  }
  Record record = delivery_record();
  record.content_offset = kMaxContent + 1;
  check_result(DecodeResult::kBadContent, decode_record(record));
  for (const std::uint32_t stall : {0U, kMaxDurationMs + 1}) {
    record = delivery_record();
    record.stall_ms = stall;
    check_result(DecodeResult::kBadDuration, decode_record(record));
  }
}

TEST(Record, of_a_linger_has_no_content_whatever_those_words_say) {
  Record record = good_record();
  record.content_length = 5;
  record.stall_ms = 5;
  Handoff out;
  check_result(DecodeResult::kOk, decode(bytes_of(record), out));
  UNSIGNED_LONGLONGS_EQUAL(0, out.content_length);
  LONGS_EQUAL(0, out.stall_ms);
}

TEST_GROUP(Greeting){
    static GreetingResult decoded(const Greeting& greeting){std::uint64_t kinds = 0;
return decode_greeting(bytes_of(greeting), kinds);
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

TEST(Record, of_an_idle_connection_brings_its_count_timeout_and_tag) {
  Record record = good_record();
  record.kind = RecordKind::kIdle;
  record.stall_ms = 15'000;
  record.keepalives = 99;
  record.ticket = 0x1234'5678'9abc'def0;
  Handoff out;
  check_result(DecodeResult::kOk, decode(bytes_of(record), out));
  CHECK(out.kind == RecordKind::kIdle);
  LONGS_EQUAL(15'000, out.stall_ms);
  LONGS_EQUAL(99, out.keepalives);
  UNSIGNED_LONGLONGS_EQUAL(0x1234'5678'9abc'def0, out.ticket);
  record.stall_ms = 0;
  check_result(DecodeResult::kBadDuration, decode_record(record));
  record.stall_ms = kMaxDurationMs + 1;
  check_result(DecodeResult::kBadDuration, decode_record(record));
}

TEST_GROUP(Return){};

TEST(Return, comes_back_as_it_was_sent) {
  Return out;
  CHECK(decode(bytes_of(encode(Return{7, 5'000, 123'456, 0xfedc'ba98'7654'3210})), out));
  LONGS_EQUAL(7, out.keepalives);
  LONGS_EQUAL(5'000, out.keepalive_ms);
  UNSIGNED_LONGLONGS_EQUAL(123'456, out.parked_ns);
  UNSIGNED_LONGLONGS_EQUAL(0xfedc'ba98'7654'3210, out.tag);
}

TEST(Return, is_refused_if_anything_is_wrong_with_it) {
  Return out{1, 2, 3};
  const auto refused = [&](auto change) {
    ReturnRecord record = encode(Return{7, 5'000, 0});
    change(record);
    return !decode(bytes_of(record), out) && out.keepalives == 1;
  };
  CHECK(refused([](ReturnRecord& r) { r.magic = kRecordMagic; }));
  CHECK(refused([](ReturnRecord& r) { r.version = 2; }));
  CHECK(refused([](ReturnRecord& r) { r.size = 31; }));
  CHECK(refused([](ReturnRecord& r) { r.keepalive_ms = 0; }));
  CHECK(refused([](ReturnRecord& r) { r.keepalive_ms = kMaxDurationMs + 1; }));
  const auto bytes = bytes_of(encode(Return{7, 5'000, 0}));
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    CHECK(!decode(std::span(bytes).first(size), out));
  }
  auto longer = bytes;
  longer.resize(33);
  CHECK(!decode(longer, out));
}

TEST(Greeting, says_which_kinds_of_records_are_taken) {
  Greeting greeting;
  greeting.kinds = kAllKinds;
  std::uint64_t kinds = 0;
  CHECK(decode_greeting(bytes_of(greeting), kinds) == GreetingResult::kWelcome);
  UNSIGNED_LONGLONGS_EQUAL(std::uint64_t{1} << 1 | std::uint64_t{1} << 2 | std::uint64_t{1} << 4 |
                               std::uint64_t{1} << 5 | std::uint64_t{1} << 6 |
                               std::uint64_t{1} << 32,
                           kinds);
  greeting.verdict = Verdict::kDenied;
  kinds = 7;
  CHECK(decode_greeting(bytes_of(greeting), kinds) == GreetingResult::kDenied);
  UNSIGNED_LONGLONGS_EQUAL(7, kinds);
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
    std::uint64_t kinds = 7;
    CHECK(decode_greeting(cut, kinds) == GreetingResult::kGarbage);
  }
}

TEST(Record, that_begins_an_offer_or_names_a_way_back_needs_no_more_than_a_ticket) {
  for (const RecordKind kind : {RecordKind::kBegin, RecordKind::kWayBack}) {
    const Record record = encode({.kind = kind, .ticket = 77});
    Handoff out = kHandoff;
    check_result(DecodeResult::kOk, decode(bytes_of(record), out));
    CHECK(out.kind == kind);
    UNSIGNED_LONGLONGS_EQUAL(77, out.ticket);
    LONGS_EQUAL(0, out.cap_ms);
  }
}

TEST(Record, of_a_delivery_has_a_ticket_and_of_a_linger_none) {
  Record record = delivery_record();
  record.ticket = 78;
  Handoff out;
  check_result(DecodeResult::kOk, decode(bytes_of(record), out));
  UNSIGNED_LONGLONGS_EQUAL(78, out.ticket);
  record.kind = RecordKind::kLinger;
  check_result(DecodeResult::kOk, decode(bytes_of(record), out));
  UNSIGNED_LONGLONGS_EQUAL(0, out.ticket);
}

TEST_GROUP(Answer){};

TEST(Answer, comes_back_as_it_was_sent) {
  using enum Acceptance;
  for (const Acceptance acceptance : {kAccepted, kNoRoom, kUnfit, kDenied}) {
    Answer sent;
    sent.acceptance = acceptance;
    sent.ticket = 79;
    Answer out;
    CHECK(decode_answer(bytes_of(sent), out));
    CHECK(out.acceptance == acceptance);
    UNSIGNED_LONGLONGS_EQUAL(79, out.ticket);
  }
}

// What isn't clearly a yes must never be taken for one: both would send the response.
TEST(Answer, is_nothing_else) {
  Answer out;
  const auto refused = [&out](const Answer& answer) {
    return !decode_answer(bytes_of(answer), out);
  };
  CHECK(refused({.magic = kGreetingMagic, .acceptance = Acceptance::kAccepted}));
  CHECK(refused({.version = 2, .acceptance = Acceptance::kAccepted}));
  CHECK(refused({.acceptance = static_cast<Acceptance>(4)}));
  const auto whole = bytes_of(Answer{.acceptance = Acceptance::kAccepted});
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const std::vector<std::byte> cut(whole.begin(), whole.begin() + static_cast<long>(length));
    CHECK(!decode_answer(cut, out));
  }
  CHECK(!decode_answer(bytes_of(Greeting{}), out));
}
