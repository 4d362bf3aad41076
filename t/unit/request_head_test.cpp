// SPDX-License-Identifier: Apache-2.0
#include "contract/request_head.h"

#include <cstddef>
#include <string>
#include <string_view>

#include <CppUTest/TestHarness.h>

using namespace lingerd;

namespace {

using State = HeadScan::State;
using Body = Framing::Body;

constexpr std::string_view kHead = "GET / HTTP/1.1\r\nHost: a\r\nCookie: b=c\r\n\r\n";

void is_state(State expected, std::string_view bytes) {
  LONGS_EQUAL_TEXT(static_cast<int>(expected), static_cast<int>(scan_head(bytes).state),
                   std::string(bytes).c_str());
}

Framing framing(const std::string& fields) {
  return framing_of("POST / HTTP/1.1\r\n" + fields + "\r\n");
}

void is_body(Body expected, const std::string& fields) {
  LONGS_EQUAL_TEXT(static_cast<int>(expected), static_cast<int>(framing(fields).body),
                   fields.c_str());
}

}  // namespace

TEST_GROUP(RequestHead){};

TEST(RequestHead, ends_with_an_empty_line_and_no_byte_before) {
  for (std::size_t size = 0; size < kHead.size(); ++size) {
    is_state(State::kIncomplete, kHead.substr(0, size));
  }
  const HeadScan scan = scan_head(std::string(kHead) + "body\r\n\r\n");
  CHECK(scan.state == State::kComplete);
  LONGS_EQUAL(kHead.size(), scan.size);
  LONGS_EQUAL(0, scan.begin);
}

// What was whole isn't looked at again: it could be anything.
TEST(RequestHead, is_scanned_on_from_its_last_line) {
  const HeadScan begun = scan_head("\r\nGET / HTTP/1.1\r\nHost: a");
  LONGS_EQUAL(2, begun.begin);
  LONGS_EQUAL(18, begun.line);
  const std::string_view rest = "\r\n\r\n\r\n----------\r\nHost: abc\r\n\r\n";
  const HeadScan scan = scan_head(rest, begun);
  CHECK(scan.state == State::kComplete);
  LONGS_EQUAL(2, scan.begin);
  LONGS_EQUAL(rest.size(), scan.size);
}

TEST(RequestHead, is_found_in_pieces_as_in_one) {
  const std::string head = "\n\r\n" + std::string(kHead);
  HeadScan before;
  for (std::size_t size = 0; size < head.size(); ++size) {
    before = scan_head(std::string_view(head).substr(0, size), before);
    CHECK(before.state == State::kIncomplete);
  }
  before = scan_head(head, before);
  CHECK(before.state == State::kComplete);
  LONGS_EQUAL(head.size(), before.size);
  LONGS_EQUAL(3, before.begin);
  CHECK(scan_head({}, scan_head("GET / HTTP/1.1\r\nHost: a")).state == State::kIncomplete);
}

TEST(RequestHead, may_have_bare_line_feeds) {
  const std::string_view head = "GET / HTTP/1.0\nHost: a\n\n";
  LONGS_EQUAL(head.size(), scan_head(head).size);
  is_state(State::kIncomplete, head.substr(0, head.size() - 1));
}

TEST(RequestHead, may_come_behind_blank_lines) {
  const std::string bytes = "\r\n\n\r\n" + std::string(kHead);
  const HeadScan scan = scan_head(bytes);
  CHECK(scan.state == State::kComplete);
  LONGS_EQUAL(5, scan.begin);
  LONGS_EQUAL(bytes.size(), scan.size);
  is_state(State::kIncomplete, "\r\n\r\n");
  is_state(State::kIncomplete, "\r\n\r");
}

TEST(RequestHead, of_something_else_is_httpds) {
  is_state(State::kOther, "GET /\r\n");  // HTTP/0.9 has no more
  is_state(State::kOther, "GET / HTTP/2.0\r\n");
  is_state(State::kOther, "PRI * HTTP/2.0\r\n\r\nSM");
  is_state(State::kOther, "GET / HTTP/1.x\r\n");
  is_state(State::kOther, "HTTP/1.1\r\n");
  is_state(State::kOther, "\x16\x03\x01");
  is_state(State::kOther, "\r\n ");
  is_state(State::kOther, "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n");
  is_state(State::kIncomplete, "NONSENSE without an end");
}

TEST(RequestHead, says_how_much_body_follows) {
  is_body(Body::kNone, "Host: a\r\n");
  is_body(Body::kLength, "Host: a\r\ncontent-LENGTH:\t12 \r\n");
  LONGS_EQUAL(12, framing("Content-Length: 12\r\n").length);
  LONGS_EQUAL(0, framing("Content-Length: 0\r\n").length);
  is_body(Body::kChunked, "Transfer-Encoding: Chunked\r\n");
  is_body(Body::kNone, "X-Content-Length: 12\r\nUpgrade-Insecure-Requests: 1\r\n");
}

TEST(RequestHead, leaves_what_is_in_doubt_to_httpd) {
  for (const char* fields :
       {"Content-Length: 1\r\nContent-Length: 1\r\n", "Content-Length: +1\r\n",
        "Content-Length: -1\r\n", "Content-Length: 0x10\r\n", "Content-Length: 1, 1\r\n",
        "Content-Length:\r\n", "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 9999999999999999\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: identity\r\n",
        "Expect: 100-continue\r\nContent-Length: 1\r\n", "Upgrade: websocket\r\n",
        "Host: a\r\n folded\r\nContent-Length: 1\r\n", "no colon\r\nContent-Length: 1\r\n"}) {
    is_body(Body::kOther, fields);
  }
  CHECK(framing_of("CONNECT a:443 HTTP/1.1\r\n\r\n").body == Body::kOther);
  CHECK(framing_of("").body == Body::kOther);
  CHECK(framing_of("POST / HTTP/1.1\r\nContent-Length: 1\r\n").body == Body::kOther);  // no end
}
