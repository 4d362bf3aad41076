// SPDX-License-Identifier: Apache-2.0
#include "tools/ablinger/response.h"

#include <strings.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <system_error>

namespace ablinger {
namespace {

bool same(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

bool number(std::string_view text, std::uint64_t& out, int base) {
  return !text.empty() &&
         std::from_chars(text.data(), text.data() + text.size(), out, base).ec == std::errc();
}

}  // namespace

Response::State Response::feed(std::string_view bytes, const std::string* expected) {
  started_ = started_ || !bytes.empty();
  if (body_ != Body::kNotYet) return feed_body(bytes, expected);
  // Nearly always the head arrives in one piece: no copy then.
  const std::size_t kept = pending_.size();
  if (kept > 0) pending_.append(bytes);
  const std::string_view seen = kept > 0 ? std::string_view(pending_) : bytes;
  const std::size_t end = seen.find("\r\n\r\n");
  if (end == std::string_view::npos) {
    if (kept == 0) pending_ = bytes;
    return pending_.size() > 65536 ? State::kMalformed : State::kMore;
  }
  const State head = read_head(seen.substr(0, end + 2));
  const std::string_view rest = bytes.substr(end + 4 - kept);
  pending_.clear();
  return head == State::kMalformed ? head : feed_body(rest, expected);
}

Response::State Response::read_head(std::string_view head) {
  std::uint64_t status = 0;
  if (!head.starts_with("HTTP/1.") || !number(head.substr(9, 3), status, 10)) {
    return State::kMalformed;
  }
  status_ = static_cast<int>(status);
  body_ = Body::kUntilClose;
  head.remove_prefix(head.find("\r\n") + 2);
  while (!head.empty()) {
    const std::string_view line = head.substr(0, head.find("\r\n"));
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return State::kMalformed;
    std::string_view value = line.substr(colon + 1);
    value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
    read_field(line.substr(0, colon), value);
    head.remove_prefix(line.size() + 2);
  }
  if (status_ == 204 || status_ == 304) body_ = Body::kLength;
  return State::kMore;
}

void Response::read_field(std::string_view name, std::string_view value) {
  if (same(name, "Content-Length") && body_ == Body::kUntilClose) {
    if (number(value, left_, 10)) body_ = Body::kLength;
  } else if (same(name, "Transfer-Encoding") && same(value, "chunked")) {
    body_ = Body::kChunked;
    left_ = 0;
  } else if (same(name, "Connection")) {
    says_close_ = same(value, "close");
  }
}

void Response::compare(std::string_view bytes, const std::string* expected) {
  if (expected == nullptr) return;
  differs_ = differs_ || compared_ > expected->size() ||
             std::string_view(*expected).substr(compared_, bytes.size()) != bytes;
  compared_ += bytes.size();
}

Response::State Response::feed_body(std::string_view bytes, const std::string* expected) {
  if (body_ == Body::kChunked) return feed_chunks(bytes, expected);
  compare(bytes, expected);
  body_bytes_ += bytes.size();
  if (body_ == Body::kUntilClose) return State::kMore;
  if (bytes.size() > left_) return State::kMalformed;
  left_ -= bytes.size();
  return left_ == 0 ? State::kComplete : State::kMore;
}

Response::State Response::feed_chunks(std::string_view bytes, const std::string* expected) {
  while (!bytes.empty()) {
    if (left_ > 0) {
      const std::size_t take = std::min<std::uint64_t>(left_, bytes.size());
      // All but the CRLF at its end.
      if (left_ > 2) compare(bytes.substr(0, std::min<std::uint64_t>(take, left_ - 2)), expected);
      left_ -= take;
      bytes.remove_prefix(take);
      if (left_ == 0 && last_chunk_) return State::kComplete;
      continue;
    }
    const std::size_t line_end = bytes.find('\n');
    pending_.append(bytes.substr(0, line_end));
    if (line_end == std::string_view::npos) return State::kMore;
    bytes.remove_prefix(line_end + 1);
    std::uint64_t size = 0;
    if (!number(pending_, size, 16)) return State::kMalformed;
    pending_.clear();
    body_bytes_ += size;
    last_chunk_ = size == 0;
    left_ = size + 2;  // the CRLF after the chunk; no server here sends trailers
  }
  return State::kMore;
}

Response::State Response::at_eof() {
  return body_ == Body::kUntilClose ? State::kComplete : State::kMore;
}

}  // namespace ablinger
