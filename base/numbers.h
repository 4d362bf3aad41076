// SPDX-License-Identifier: Apache-2.0
// Numbers as people read them. Pure, in ASCII.
#pragma once

#include <cstdint>
#include <string>

namespace lingerd {

[[nodiscard]] std::string grouped(std::uint64_t value);              // 1,234,567
[[nodiscard]] std::string decimal(std::uint64_t value, int places);  // decimal(1500, 3) is "1.500"
[[nodiscard]] std::string shortest(double value);                    // at most one decimal: 2, 2.5

// Rounded; what no 64-bit number can hold becomes the nearest one that can. A page that isn't
// lingerd's own work may hold anything.
[[nodiscard]] std::uint64_t whole_number(double value);
[[nodiscard]] std::string rate_text(double per_second);     // 12.5, 1,043
[[nodiscard]] std::string bytes_text(std::uint64_t bytes);  // 640 B, 1.4 MB (powers of 1000)
[[nodiscard]] std::string duration_text(std::uint64_t ms);  // 35 ms, 4.2 s, 2 min 5 s, 3 d 4 h
[[nodiscard]] std::string percent_text(std::uint64_t part, std::uint64_t whole);  // "12%", "<1%"

}  // namespace lingerd
