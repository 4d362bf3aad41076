// SPDX-License-Identifier: Apache-2.0
// Against a body's encoder: no prefix of a body has come, whatever its chunks, and no end is before
// at_least.
#include "contract/chunks.h"

#include <cstddef>
#include <cstdio>
#include <random>
#include <string>
#include <string_view>

#include <CppUTest/TestHarness.h>

using namespace lingerd;

namespace {

using State = ChunkScan::State;

std::string chunk(const std::string& data, const char* format, const char* end) {
  char size[64];
  std::snprintf(size, sizeof size, format, data.size());
  return size + std::string(end) + data + end;
}

std::string random_body(std::mt19937& random) {
  static constexpr const char* kFormats[] = {"%zx", "%zX", "000%zx", "%zx;name=value", "%zx ;a"};
  static constexpr const char* kTrailers[] = {"", "X-A: b\r\n", "X-A: b\r\nX-B: c\n"};
  std::string body;
  for (auto chunks = random() % 5; chunks > 0; --chunks) {
    std::string data(1 + random() % 40, '0');
    for (char& c : data) c = "0\r\n;x"[random() % 5];
    body += chunk(data, kFormats[random() % 5], random() % 4 == 0 ? "\n" : "\r\n");
  }
  return body + (random() % 2 == 0 ? "0\r\n" : "000;x=y\n") + kTrailers[random() % 3] + "\r\n";
}

}  // namespace

TEST_GROUP(Chunks){};

TEST(Chunks, end_where_their_encoder_has_ended_them) {
  std::mt19937 random(1);
  for (int i = 0; i < 2'000; ++i) {
    const std::string body = random_body(random);
    const ChunkScan all = scan_chunks(body + "GET / HTTP/1.1\r\n");
    CHECK_TEXT(all.state == State::kComplete, body.c_str());
    LONGS_EQUAL_TEXT(body.size(), all.size, body.c_str());
    ChunkScan before;
    for (std::size_t size = 0; size < body.size(); ++size) {
      const ChunkScan part = scan_chunks(std::string_view(body).substr(0, size));
      before = scan_chunks(std::string_view(body).substr(0, size), before);
      CHECK_TEXT(before.state == part.state, body.c_str());
      LONGS_EQUAL_TEXT(part.at_least, before.at_least, body.c_str());
      CHECK_TEXT(part.state == State::kIncomplete, body.c_str());
      CHECK_TEXT(part.at_least > size && part.at_least <= body.size(), body.c_str());
    }
    LONGS_EQUAL_TEXT(body.size(), scan_chunks(body, before).size, body.c_str());
  }
}

// What was whole isn't looked at again: it could be anything.
TEST(Chunks, are_scanned_on_from_where_they_were_whole) {
  const ChunkScan chunks = scan_chunks("3\r\nabc\r\n5\r\nab");
  LONGS_EQUAL(8, chunks.whole);
  CHECK(scan_chunks("--------5\r\nabcde\r\n0\r\n\r\n", chunks).state == State::kComplete);
  const ChunkScan trailers = scan_chunks("0\r\nX-A: b\r\nX-");
  LONGS_EQUAL(11, trailers.whole);
  CHECK(scan_chunks("-----------X-B: c\r\n\r\n", trailers).state == State::kComplete);
}

TEST(Chunks, say_how_much_is_missing_at_least) {
  LONGS_EQUAL(4 + 255 + 1 + 3, scan_chunks("ff\r\nabc").at_least);
  LONGS_EQUAL(1, scan_chunks("").at_least);
}

TEST(Chunks, of_something_else_are_httpds) {
  for (const char* body : {"\r\n", "x\r\n", "-1\r\n", "1x\r\n", "g\r\n", "fffffffffffffffffff\r\n",
                           "ffffffffffffffff\r\n", "1\r\nab\r\n", "1\r\na\rb", ";\r\n", " 1\r\n"}) {
    CHECK_TEXT(scan_chunks(body).state == State::kOther, body);
  }
}
