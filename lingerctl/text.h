// SPDX-License-Identifier: Apache-2.0
// What lingerctl prints for a person, and what `lingerctl top` shows live. Pure.
#pragma once

#include <string>

#include "report/report.h"

namespace lingerd {

// What the terminal can do.
struct TextStyle {
  bool colour = false;
  bool utf8 = false;
};

// A screenful of 80 columns and at most 22 lines.
[[nodiscard]] std::string screenful(const Report& report, const TextStyle& style);

// The same with rates per second since `before`. Without a lingerd in both there are no rates.
[[nodiscard]] std::string live_screen(const Report& before, const Report& now,
                                      const TextStyle& style);

// Every counter with its key, metric and help.
[[nodiscard]] std::string explain_counters();

}  // namespace lingerd
