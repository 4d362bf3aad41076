// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/awaited.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "contract/record.h"
#include "lingerd/core/deadlines.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd;

namespace {

constexpr MonoMillis kBegan = 1'000'000;

Awaited awaited(RequestPart part, std::uint64_t most, std::uint32_t body_at = 0) {
  Awaited made;
  made.what = {part, body_at, part == RequestPart::kHead ? 0U : 500U, most, 0};
  made.timeout_ms = 20'000;
  made.began = kBegan;
  return made;
}

Arrived arrived(std::string_view front, std::uint64_t bytes = 0) {
  Arrived made;
  made.front = front;
  made.bytes = bytes != 0 ? bytes : front.size();
  return made;
}

}  // namespace

TEST_GROUP(Awaited){
    void is(Judgement judgement, Awaited& of, const Arrived& look, MonoMillis after = 1){
        LONGS_EQUAL(static_cast<int>(judgement), static_cast<int>(judge(of, look, kBegan + after)));
}
}
;

TEST(Awaited, a_head_comes) {
  Awaited head = awaited(RequestPart::kHead, 8'000);
  is(Judgement::kMore, head, arrived("GET / HTTP/1.1\r\n"));
  LONGS_EQUAL(17, head.at_least);
  is(Judgement::kCame, head, arrived("GET / HTTP/1.1\r\n\r\n"));
  is(Judgement::kCame, head, arrived("nonsense\r\n"));  // httpd knows better
}

TEST(Awaited, a_head_has_its_time_and_no_more) {
  Awaited head = awaited(RequestPart::kHead, 8'000);
  is(Judgement::kMore, head, arrived("GET"), 20'000);
  is(Judgement::kTimedOut, head, arrived("GET"), 20'001);
}

TEST(Awaited, a_head_that_httpd_would_refuse_is_httpds) {
  Awaited head = awaited(RequestPart::kHead, 100);
  is(Judgement::kTooMuch, head, arrived(std::string(100, 'a')));
}

TEST(Awaited, bytes_come) {
  Awaited body = awaited(RequestPart::kBytes, 1'000, 100);
  LONGS_EQUAL(0, body.front_wanted());
  is(Judgement::kMore, body, arrived("", 999));
  LONGS_EQUAL(1'000, body.at_least);
  is(Judgement::kCame, body, arrived("", 1'000));
  is(Judgement::kCame, body, arrived("", 2'000));  // with the next request behind it
}

TEST(Awaited, a_body_has_the_time_that_its_bytes_take) {
  Awaited body = awaited(RequestPart::kBytes, 100'000, 100);
  is(Judgement::kMore, body, arrived("", 500), 21'000);
  is(Judgement::kTimedOut, body, arrived("", 500), 21'001);
  is(Judgement::kMore, body, arrived("", 50'000), 120'000);
  is(Judgement::kTimedOut, body, arrived("", 50'000), 120'001);
}

TEST(Awaited, a_body_has_no_longer_than_it_may_have_in_httpd) {
  Awaited body = awaited(RequestPart::kBytes, 100'000, 100);
  body.what.longest_s = 30;
  is(Judgement::kMore, body, arrived("", 50'000), 30'000);
  is(Judgement::kTimedOut, body, arrived("", 50'000), 30'001);
}

TEST(Awaited, a_body_is_looked_at_now_and_then) {
  Awaited body = awaited(RequestPart::kBytes, 100'000, 100);
  LONGS_EQUAL(kRateLookMs, body.next_look_ms(kBegan));
  LONGS_EQUAL(kLastLookMs, body.next_look_ms(kBegan + 19'500));
  LONGS_EQUAL(kLastLookMs, body.next_look_ms(kBegan + 50'000));
}

TEST(Awaited, chunks_come) {
  const std::string head(10, 'h');
  Awaited chunks = awaited(RequestPart::kChunks, 10'000, 10);
  is(Judgement::kMore, chunks, arrived(head + "ff\r\n"));
  LONGS_EQUAL(10 + 4 + 255 + 1 + 3, chunks.at_least);
  is(Judgement::kCame, chunks, arrived(head + "1\r\na\r\n0\r\n\r\n"));
  is(Judgement::kCame, chunks, arrived(head + "no chunk\r\n"));
  is(Judgement::kMore, chunks, arrived("short"));  // nobody has consumed it, but who knows
}

TEST(Awaited, chunks_have_a_limit) {
  Awaited chunks = awaited(RequestPart::kChunks, 50, 10);
  is(Judgement::kTooMuch, chunks, arrived(std::string(10, 'h') + "ff\r\n" + std::string(36, 'a')));
}

TEST(Awaited, what_the_kernel_has_no_room_for_goes_back) {
  Awaited body = awaited(RequestPart::kBytes, 100'000, 100);
  Arrived look = arrived("", 60'000);
  look.readable = true;  // of course: nothing has been asked for yet
  is(Judgement::kMore, body, look);
  is(Judgement::kTooMuch, body, look);
}

TEST(Awaited, nothing_more_comes_behind_a_FIN) {
  Awaited head = awaited(RequestPart::kHead, 8'000);
  Arrived look = arrived("GET");
  look.state = Arrived::State::kFinished;
  is(Judgement::kTooMuch, head, look);
  look = arrived("GET / HTTP/1.1\r\n\r\n");
  look.state = Arrived::State::kFinished;
  is(Judgement::kCame, head, look);
  look = arrived("");
  look.state = Arrived::State::kFinished;
  is(Judgement::kClosed, head, look);
  look.state = Arrived::State::kClosed;
  is(Judgement::kClosed, head, look);
}

TEST(Awaited, long_ones_are_not_looked_at_for_each_segment) {
  Awaited chunks = awaited(RequestPart::kChunks, 2'000'000, 10);
  const std::string much = std::string(10, 'h') + "fffff\r\n" + std::string(kLongLook, 'a');
  CHECK(!chunks.may_wait(kBegan));
  is(Judgement::kMore, chunks, arrived(much));
  CHECK(chunks.may_wait(kBegan + kLongLookMs));
  CHECK(!chunks.may_wait(kBegan + 1 + kLongLookMs));
  Awaited body = awaited(RequestPart::kBytes, 1'000'000, 10);
  is(Judgement::kMore, body, arrived("", 500'000));
  CHECK(!body.may_wait(kBegan + 1));
}
