// SPDX-License-Identifier: Apache-2.0
#include "contract/request_head.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <system_error>

namespace lingerd {
namespace {

constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// RFC 9110, 5.6.2: what a method is made of. TLS, PROXY's binary form and noise begin otherwise.
constexpr bool is_token(char c) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         kMarks.find(c) != kMarks.npos;
}

constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool is(std::string_view text, std::string_view lower_case) {
  return std::ranges::equal(text, lower_case, {}, lower);
}

// The line at `at` without its end, and where the next one begins. Nothing: its end is missing.
struct Line {
  std::string_view text;
  std::size_t next = 0;
};
std::optional<Line> line_at(std::string_view bytes, std::size_t at) {
  const std::size_t end = bytes.find('\n', at);
  if (end == bytes.npos) return std::nullopt;
  std::string_view text = bytes.substr(at, end - at);
  if (text.ends_with('\r')) text.remove_suffix(1);
  return Line{text, end + 1};
}

bool is_http_1(std::string_view line) {
  constexpr std::string_view kVersion = " HTTP/1.";
  return line.size() > kVersion.size() && is_digit(line.back()) &&
         line.substr(0, line.size() - 1).ends_with(kVersion);
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

constexpr std::uint64_t kLongest = std::uint64_t{1} << 50;

bool parse_length(std::string_view value, std::uint64_t& length) {
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
  return error == std::errc{} && end == value.data() + value.size() && !value.empty() &&
         is_digit(value.front()) && length <= kLongest;
}

// One field. False: not for us to judge.
bool note_field(std::string_view line, Framing& framing) {
  const std::size_t colon = line.find(':');
  if (colon == line.npos || line.front() == ' ' || line.front() == '\t') return false;
  const std::string_view name = trimmed(line.substr(0, colon));
  const std::string_view value = trimmed(line.substr(colon + 1));
  if (is(name, "expect") || is(name, "upgrade")) return false;
  const bool encodes = is(name, "transfer-encoding");
  if (!encodes && !is(name, "content-length")) return true;
  if (framing.body != Framing::Body::kNone) return false;  // a second one, or both
  framing.body = encodes ? Framing::Body::kChunked : Framing::Body::kLength;
  return encodes ? is(value, "chunked") : parse_length(value, framing.length);
}

void skip_blank_lines(std::string_view bytes, std::size_t& at) {
  for (;;) {
    const std::string_view rest = bytes.substr(at);
    const std::size_t blank = rest.starts_with('\n') ? 1 : rest.starts_with("\r\n") ? 2 : 0;
    if (blank == 0) return;
    at += blank;
  }
}

}  // namespace

HeadScan scan_head(std::string_view bytes, const HeadScan& before) {
  using State = HeadScan::State;
  HeadScan scan;
  if (before.line <= bytes.size()) {
    scan.begin = before.begin;
    scan.line = before.line;
  }
  std::optional<Line> line;
  if (scan.line > scan.begin) {
    line = line_at(bytes, scan.line);
  } else {
    skip_blank_lines(bytes, scan.begin);
    scan.line = scan.begin;
    const std::string_view rest = bytes.substr(scan.begin);
    if (rest.empty() || rest == "\r") return scan;
    scan.state = State::kOther;
    if (!is_token(rest.front())) return scan;
    line = line_at(bytes, scan.begin);
    if (line && !is_http_1(line->text)) return scan;
  }
  scan.state = State::kIncomplete;
  while (line && !line->text.empty()) {
    scan.line = line->next;
    line = line_at(bytes, line->next);
  }
  if (!line) return scan;
  scan.state = State::kComplete;
  scan.size = line->next;
  return scan;
}

Framing framing_of(std::string_view head) {
  Framing framing;
  std::optional<Line> line = line_at(head, 0);
  const bool is_connect = line && line->text.starts_with("CONNECT ");
  bool judged = line && !is_connect;
  while (judged && (line = line_at(head, line->next)) && !line->text.empty()) {
    judged = note_field(line->text, framing);
  }
  if (!judged || !line) return {Framing::Body::kOther};
  return framing;
}

}  // namespace lingerd
