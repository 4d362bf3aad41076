// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/request/missing.h"

#include <cstdint>
#include <string>
#include <string_view>

#include "contract/record.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd;

namespace {

constexpr RequestLimits kLimits{10'000, 1'000, 500, 60};

Missing missing(const std::string& bytes, RequestLimits limits = kLimits, std::uint64_t there = 0) {
  return what_is_missing(bytes, there != 0 ? there : bytes.size(), limits);
}

std::string post(const std::string& fields, const std::string& body) {
  return "POST / HTTP/1.1\r\n" + fields + "\r\n\r\n" + body;
}

}  // namespace

TEST_GROUP(Missing){};

TEST(Missing, nothing_of_a_request_without_a_body) {
  const Missing whole = missing("GET / HTTP/1.1\r\n\r\n");
  CHECK(!whole.part);
  LONGS_EQUAL(18, whole.head);
}

TEST(Missing, the_rest_of_a_head) {
  for (const char* bytes : {"", "G", "GET / HTTP/1.1\r\nHost"}) {
    const Missing head = missing(bytes);
    CHECK(head.part && head.part->part == RequestPart::kHead);
    LONGS_EQUAL(10'000, head.part->most);
    LONGS_EQUAL(0, head.head);
    LONGS_EQUAL(std::string_view(bytes).size() + 1, head.at_least);
  }
}

TEST(Missing, not_of_a_head_that_is_too_long) {
  CHECK(!missing("GET", {2, 1'000, 500, 0}).part);
}

TEST(Missing, the_rest_of_a_body) {
  const std::string bytes = post("Content-Length: 100", "abc");
  const Missing body = missing(bytes);
  CHECK(body.part && body.part->part == RequestPart::kBytes);
  LONGS_EQUAL(bytes.size() - 3 + 100, body.part->most);
  LONGS_EQUAL(bytes.size() - 3, body.part->body_at);
  LONGS_EQUAL(500, body.part->min_rate);
  LONGS_EQUAL(60, body.part->longest_s);
  LONGS_EQUAL(bytes.size() - 3, body.head);
}

TEST(Missing, nothing_of_a_body_that_is_there) {
  CHECK(!missing(post("Content-Length: 3", "abc")).part);
  CHECK(!missing(post("Content-Length: 3", "abcGET / HT")).part);
  CHECK(!missing(post("Content-Length: 100", "abc"), kLimits, 10'000).part);  // beyond the look
  CHECK(!missing(post("Content-Length: 0", "")).part);
}

TEST(Missing, not_of_a_body_that_is_too_large) {
  CHECK(missing(post("Content-Length: 1000", "abc")).part.has_value());
  CHECK(!missing(post("Content-Length: 1001", "abc")).part);
  CHECK(!missing(post("Content-Length: 10", "abc"), {10'000, 0, 500, 0}).part);
  CHECK(!missing(post("Transfer-Encoding: chunked", "1\r\n"), {10'000, 0, 500, 0}).part);
}

TEST(Missing, the_rest_of_chunks) {
  const std::string bytes = post("Transfer-Encoding: chunked", "a\r\n0123");
  const Missing chunks = missing(bytes);
  CHECK(chunks.part && chunks.part->part == RequestPart::kChunks);
  LONGS_EQUAL(bytes.size() - 7, chunks.part->body_at);
  LONGS_EQUAL(bytes.size() - 7 + 1'000, chunks.part->most);
  LONGS_EQUAL(bytes.size() - 7 + 3 + 10 + 1 + 3, chunks.at_least);
  CHECK(!missing(post("Transfer-Encoding: chunked", "0\r\n\r\n")).part);
  CHECK(!missing(post("Transfer-Encoding: chunked", "nonsense\r\n")).part);
  CHECK(!missing(post("Transfer-Encoding: chunked", "fff\r\n")).part);  // over the limit
  CHECK(!missing(post("Transfer-Encoding: chunked", "a\r\n" + std::string(8, 'a')), kLimits, 2'000)
             .part);
}

TEST(Missing, nothing_of_what_expects_an_answer_first) {
  CHECK(!missing(post("Expect: 100-continue\r\nContent-Length: 100", "")).part);
}
