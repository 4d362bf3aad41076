// SPDX-License-Identifier: Apache-2.0
// An HTTP/1 response as it arrives: where it ends, and whether it is whole.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ablinger {

class Response {
 public:
  enum class State { kMore, kComplete, kMalformed };

  // The body is compared with `expected` as it comes, unless that is null.
  [[nodiscard]] State feed(std::string_view bytes, const std::string* expected);
  // Of a body that was fed with the same `expected`.
  [[nodiscard]] bool body_is(const std::string& expected) const {
    return !differs_ && compared_ == expected.size();
  }
  // The server closed: complete only if nothing else tells the end.
  [[nodiscard]] State at_eof();
  void clear() { *this = Response(); }

  [[nodiscard]] bool started() const { return started_; }
  [[nodiscard]] int status() const { return status_; }
  [[nodiscard]] std::uint64_t body_bytes() const { return body_bytes_; }
  [[nodiscard]] bool says_close() const { return says_close_; }

 private:
  enum class Body { kNotYet, kLength, kChunked, kUntilClose };

  [[nodiscard]] State read_head(std::string_view head);
  void read_field(std::string_view name, std::string_view value);
  [[nodiscard]] State feed_body(std::string_view bytes, const std::string* expected);
  [[nodiscard]] State feed_chunks(std::string_view bytes, const std::string* expected);
  void compare(std::string_view bytes, const std::string* expected);

  std::string pending_;  // of the head, or of a chunk's size line
  Body body_ = Body::kNotYet;
  bool started_ = false;
  bool says_close_ = false;
  bool last_chunk_ = false;
  int status_ = 0;
  std::uint64_t left_ = 0;  // of the body, or of the chunk with its CRLF
  std::uint64_t body_bytes_ = 0;
  std::uint64_t compared_ = 0;
  bool differs_ = false;
};

}  // namespace ablinger
