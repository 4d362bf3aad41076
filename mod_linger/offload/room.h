// SPDX-License-Identifier: Apache-2.0
// Whether lingerd has room for one delivery more, by its stats page.
#pragma once

#include <cstdint>

namespace lingerd {

// With so many bytes in memory. lingerd has the last word when the delivery is offered; this is the
// time to leave a response to httpd.
[[nodiscard]] bool lingerd_has_room(std::uint64_t bytes) noexcept;

}  // namespace lingerd
