// SPDX-License-Identifier: Apache-2.0
// Numbers as people read them. Pure, in ASCII.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lingerd/report.h"

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

// A counter's value in its unit, by the functions above.
[[nodiscard]] std::string value_text(CounterUnit unit, std::uint64_t value);

// "no httpd connected", "8 processes of httpd connected".
[[nodiscard]] std::string peers_text(std::uint64_t peers);

// "the time of 12.3 processes": freed worker time by lingerd's uptime.
[[nodiscard]] std::string processes_text(std::uint64_t freed_ms, std::uint64_t uptime_s);

}  // namespace lingerd
