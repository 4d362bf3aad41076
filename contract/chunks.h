// SPDX-License-Identifier: Apache-2.0
// Where a body in chunks ends (RFC 9112, 7.1): for the one question whether all of it has come, as
// request_head.h. What is no chunk "has come": httpd refuses it. Pure.
#pragma once

#include <cstddef>
#include <string_view>

namespace lingerd {

struct ChunkScan {
  enum class State {
    kIncomplete,
    kComplete,  // the last chunk and its trailers end at `size`
    kOther,     // not in chunks
  };
  State state = State::kIncomplete;
  std::size_t size = 0;
  std::size_t at_least = 0;  // incomplete: it has no end before so many bytes
  std::size_t whole = 0;     // incomplete: so many are whole chunks, or lines of the trailers
  bool in_trailers = false;
};
// Of what has come from the body's beginning on. `before`: what a scan of fewer bytes has found, so
// that a client whose bytes come singly doesn't have all of them scanned each time.
[[nodiscard]] ChunkScan scan_chunks(std::string_view body, const ChunkScan& before = {});

}  // namespace lingerd
