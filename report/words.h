// SPDX-License-Identifier: Apache-2.0
// What the forms of a report have in common: states and counters in words. Pure, in ASCII.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "contract/counters.h"
#include "contract/stats_page.h"
#include "report/report.h"

namespace lingerd {

// The two metrics that aren't counters.
inline constexpr std::string_view kUpMetric = "lingerd_up";
inline constexpr std::string_view kUpHelp =
    "1 while lingerd lives (even if it is stopped or stuck), 0 when it is gone.";
inline constexpr std::string_view kHeartbeatMetric = "lingerd_heartbeat_age_seconds";
inline constexpr std::string_view kHeartbeatHelp =
    "Time since lingerd's last sign of life. Over 3 it is stopped or stuck, and httpd falls back "
    "as "
    "soon as its queue is full.";

[[nodiscard]] std::string_view state_word(Liveness liveness);  // "up", "busy", "down"

// In words, after the state: "for 3 d 4 h", "no sign of life for 12 s", "no such file: ...".
[[nodiscard]] std::string state_detail(const Report& report);

// Since lingerd's last heartbeat; 0 if it never had one.
[[nodiscard]] std::uint64_t heartbeat_age_ms(const Report& report);

// Every way in which a linger ends. Not LingerTotal less LingerQueue: a page that was read while
// its writer was stopped in the middle of writing may not add up.
[[nodiscard]] std::uint64_t ended_lingers(const DaemonCounters& c);

// A counter's value in its unit, by the functions above.
[[nodiscard]] std::string value_text(CounterUnit unit, std::uint64_t value);

// "no httpd connected", "8 processes of httpd connected".
[[nodiscard]] std::string peers_text(std::uint64_t peers);

// "the time of 12.3 processes": freed worker time by lingerd's uptime.
[[nodiscard]] std::string processes_text(std::uint64_t freed_ms, std::uint64_t uptime_s);

}  // namespace lingerd
