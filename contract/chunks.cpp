// SPDX-License-Identifier: Apache-2.0
#include "contract/chunks.h"

#include <charconv>
#include <cstdint>
#include <system_error>

namespace lingerd {
namespace {

constexpr std::string_view kLastChunk = "0\n\n";  // at its shortest
constexpr std::uint64_t kLargest = std::uint64_t{1} << 50;

// "size[;extension]". False: no size.
bool parse_size(std::string_view line, std::uint64_t& size) {
  const char* const end_of_line = line.data() + line.size();
  const auto [end, error] = std::from_chars(line.data(), end_of_line, size, 16);
  if (error != std::errc{} || size > kLargest || line.front() == '-') return false;
  return end == end_of_line || *end == ';' || *end == ' ' || *end == '\t' || *end == '\r';
}

ChunkScan not_before(std::size_t at_least, std::size_t whole) {
  return {ChunkScan::State::kIncomplete, 0, at_least, whole, false};
}

// From behind the last chunk's size: lines up to an empty one.
ChunkScan scan_trailers(std::string_view body, std::size_t at) {
  for (;;) {
    const std::size_t end = body.find('\n', at);
    if (end == body.npos) return {ChunkScan::State::kIncomplete, 0, body.size() + 1, at, true};
    const std::string_view line = body.substr(at, end - at);
    at = end + 1;
    if (line.empty() || line == "\r") return {ChunkScan::State::kComplete, at, 0, 0, false};
  }
}

}  // namespace

ChunkScan scan_chunks(std::string_view body, const ChunkScan& before) {
  constexpr ChunkScan kOther{ChunkScan::State::kOther, 0, 0, 0, false};
  if (before.in_trailers) return scan_trailers(body, before.whole);
  for (std::size_t at = before.whole;;) {
    const std::size_t whole = at;
    const std::size_t end = body.find('\n', at);
    if (end == body.npos) return not_before(body.size() + 1, whole);
    std::uint64_t size = 0;
    if (!parse_size(body.substr(at, end - at), size)) return kOther;
    at = end + 1;
    if (size == 0) return scan_trailers(body, at);
    if (body.size() - at <= size) return not_before(at + size + 1 + kLastChunk.size(), whole);
    at += size;
    const std::string_view rest = body.substr(at);
    if (rest == "\r") return not_before(body.size() + 1, whole);
    const std::size_t blank = rest.starts_with("\r\n") ? 2 : rest.starts_with('\n') ? 1 : 0;
    if (blank == 0) return kOther;
    at += blank;
  }
}

}  // namespace lingerd
