// SPDX-License-Identifier: Apache-2.0
// Where a request's head ends, and how much body follows: for the one question whether all of it
// has come. What a request means is httpd's to say, and httpd reads each byte itself: a head that
// is misread here goes to a worker early or late, and nothing worse. So whatever is in doubt "has
// come". Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lingerd {

struct HeadScan {
  enum class State {
    kIncomplete,
    kComplete,  // `size` bytes, the empty line included
    kOther,     // no request of HTTP/1: httpd needs no more of it, or knows better
  };
  State state = State::kIncomplete;
  std::size_t size = 0;
  std::size_t begin = 0;  // of the request line: blank lines may come before it (RFC 9112, 2.2)
  std::size_t line = 0;   // incomplete: where the one without an end begins
};
// `before`: what a scan of fewer bytes has found, so that a client whose bytes come singly doesn't
// have all of them scanned each time.
[[nodiscard]] HeadScan scan_head(std::string_view bytes, const HeadScan& before = {});

struct Framing {
  enum class Body {
    kNone,
    kLength,   // `length` bytes
    kChunked,  // chunks.h
    kOther,    // Expect, Upgrade, CONNECT, or what two servers might read in two ways
  };
  Body body = Body::kNone;
  std::uint64_t length = 0;
};
// Of a complete head, from its request line on.
[[nodiscard]] Framing framing_of(std::string_view head);

}  // namespace lingerd
