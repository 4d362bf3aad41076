// SPDX-License-Identifier: Apache-2.0
// The rings as the charts want them: one value a slot, oldest first, the last one the newest whole
// slot. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "contract/stats_page.h"
#include "report/report.h"

namespace lingerd {

// One slot less than the ring holds: the slot that is still running has only a part of its events.
inline constexpr std::size_t kSeriesLength = kRingSamples - 1;
using Series = std::array<std::optional<double>, kSeriesLength>;

[[nodiscard]] Series queue_series(const Report& report);       // longest queue in the slot
[[nodiscard]] Series taken_over_series(const Report& report);  // per second, as lingerd counts
[[nodiscard]] Series handoff_series(const Report& report);     // per second, as the module counts
[[nodiscard]] Series fallback_series(const Report& report);

// How much one of lingerd's running totals has risen in the last ten minutes. A lingerd that
// begins without its predecessor's page begins at 0.
[[nodiscard]] std::uint64_t recent(const Report& report, std::uint64_t RingSample::*total);

}  // namespace lingerd
