// SPDX-License-Identifier: Apache-2.0
// `lingerctl check`: a plugin for Nagios, Icinga and their like. One line with performance data,
// and an exit status, by the Monitoring Plugins Development Guidelines. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "report/report.h"

namespace lingerd {

enum class CheckStatus : int { kOk = 0, kWarning = 1, kCritical = 2, kUnknown = 3 };

// At or above which the check speaks up (with peers: below which). Each may be absent. Shares are
// in hundredths of a percent, and "lately" is the last ten minutes.
struct CheckLimits {
  std::optional<std::uint64_t> queue;      // share of --max-connections, now
  std::optional<std::uint64_t> fallbacks;  // share of what httpd wanted to hand off, lately
  std::optional<std::uint64_t> evicted;    // number, lately
  std::optional<std::uint64_t> rejected;   // number, lately
  std::optional<std::uint64_t> peers;      // processes of httpd that are connected, now
};

inline constexpr char kDefaultWarn[] = "queue=80,fallbacks=1,evicted=1";
inline constexpr char kDefaultCrit[] = "queue=95";

// "80", "80%" or "queue=80%,fallbacks=0.5,evicted=off": changes what it names in `out`. Returns
// what is wrong with it, or "".
[[nodiscard]] std::string parse_limits(std::string_view text, CheckLimits& out);

struct CheckResult {
  CheckStatus status = CheckStatus::kUnknown;
  std::string line;  // "LINGERD OK - ... | queue=..."
};
[[nodiscard]] CheckResult check(const Report& report, const CheckLimits& warn,
                                const CheckLimits& crit);
[[nodiscard]] CheckResult check_unknown(const std::string& why);

}  // namespace lingerd
