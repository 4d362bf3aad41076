// SPDX-License-Identifier: Apache-2.0
// Charts and bars as inline SVG that stretches with the page: no text inside, which would stretch
// too, and no style attribute, which a Content-Security-Policy may forbid. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "report/series.h"

namespace lingerd {

struct Curve {
  const Series* series = nullptr;
  std::string_view name;    // class names linger-<name>-line and linger-<name>-area
  std::string_view colour;  // where the style sheet is not applied
};

// The smallest of 1, 2, 3, 4, 6, 8 times a power of ten that no value exceeds; at least 1.
[[nodiscard]] double chart_top(std::span<const Curve> curves);

// `label` is for those who can't see it. Slots without a value in the first curve are shaded.
[[nodiscard]] std::string chart_svg(std::span<const Curve> curves, double top,
                                    std::string_view label);

// `now` and `peak` as shares of `limit`.
[[nodiscard]] std::string bar_svg(std::uint64_t now, std::uint64_t peak, std::uint64_t limit,
                                  std::string_view label);

}  // namespace lingerd
