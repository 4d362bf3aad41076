// SPDX-License-Identifier: Apache-2.0
// What of a request is missing, by what lies in its socket. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "contract/record.h"

namespace lingerd {

struct RequestLimits {
  std::uint64_t head = 0;  // bytes that httpd takes at most
  std::uint64_t body = 0;  // LingerRequestBody; 0: none is waited for
  std::uint32_t min_rate = 0;
  std::uint16_t longest_s = 0;  // of a body
};

struct Missing {
  std::size_t head = 0;             // bytes of it; 0: it isn't complete, or isn't a head of HTTP/1
  std::optional<AwaitedPart> part;  // that may be waited for
  std::uint64_t at_least = 0;       // bytes in all before which that can't be there
};

// `front`: the first of `there` bytes.
[[nodiscard]] Missing what_is_missing(std::string_view front, std::uint64_t there,
                                      const RequestLimits& limits);

}  // namespace lingerd
