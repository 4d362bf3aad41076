// SPDX-License-Identifier: Apache-2.0
// `lingerctl check`: a plugin for Nagios, Icinga and their like. One line with performance data,
// and an exit status, by the Monitoring Plugins Development Guidelines. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lingerd/report.h"

namespace lingerd {

enum class CheckStatus : int { kOk = 0, kWarning = 1, kCritical = 2, kUnknown = 3 };

// At or above which the check speaks up. Each may be absent.
struct CheckLimits {
  std::optional<std::uint64_t> queue_percent;  // of --max-connections, now
  std::optional<std::uint64_t> evicted;        // since lingerd started
  std::optional<std::uint64_t> rejected;       // since lingerd started
};

inline constexpr char kDefaultWarn[] = "queue=80";
inline constexpr char kDefaultCrit[] = "queue=95";

// "80", "80%" or "queue=80%,evicted=1,rejected=10". Returns what is wrong with it, or "".
[[nodiscard]] std::string parse_limits(std::string_view text, CheckLimits& out);

struct CheckResult {
  CheckStatus status = CheckStatus::kUnknown;
  std::string line;  // "LINGERD OK - ... | queue=..."
};
[[nodiscard]] CheckResult check(const Report& report, const CheckLimits& warn,
                                const CheckLimits& crit);
[[nodiscard]] CheckResult check_unknown(const std::string& why);

}  // namespace lingerd
