// SPDX-License-Identifier: Apache-2.0
#include "report/words.h"

#include <cstdint>
#include <string>
#include <string_view>

#include "base/numbers.h"
#include "contract/counters.h"
#include "contract/stats_page.h"
#include "contract/stats_reader.h"
#include "report/report.h"

namespace lingerd {
std::string_view state_word(Liveness liveness) {
  switch (liveness) {
    case Liveness::kUp: return "up";
    case Liveness::kBusy: return "busy";
    case Liveness::kDown: break;
  }
  return "down";
}

std::string state_detail(const Report& report) {
  const DaemonStatus& daemon = report.daemon;
  switch (daemon.liveness) {
    case Liveness::kUp:
      return "for " + duration_text(daemon.snapshot.counters[DaemonCounter::kUptimeSeconds] * 1000);
    case Liveness::kBusy: return "no sign of life for " + duration_text(heartbeat_age_ms(report));
    case Liveness::kDown: break;
  }
  return daemon.problem.empty() ? "reason unknown" : daemon.problem;
}

std::uint64_t heartbeat_age_ms(const Report& report) {
  const std::uint64_t beat = report.daemon.snapshot.heartbeat_ns;
  return beat != 0 && report.now_ns > beat ? (report.now_ns - beat) / 1'000'000 : 0;
}

std::uint64_t ended_lingers(const DaemonCounters& c) {
  return sum_of<CounterGroup::kLingerEnds>(c);
}

std::string value_text(CounterUnit unit, std::uint64_t value) {
  switch (unit) {
    case CounterUnit::kBytes: return bytes_text(value);
    case CounterUnit::kMicros:
      return value < 1000 ? std::to_string(value) + " us" : duration_text(value / 1000);
    case CounterUnit::kMillis: return duration_text(value);
    case CounterUnit::kSeconds: return duration_text(value * 1000);
    case CounterUnit::kCount: break;
  }
  return grouped(value);
}

std::string peers_text(std::uint64_t peers) {
  if (peers == 0) return "no httpd connected";
  return grouped(peers) + (peers == 1 ? " process" : " processes") + " of httpd connected";
}

std::string processes_text(std::uint64_t freed_ms, std::uint64_t uptime_s) {
  if (uptime_s == 0) return "the time of 0 processes";
  const double n = static_cast<double>(freed_ms) / 1000 / static_cast<double>(uptime_s);
  if (n >= 100) return "the time of " + grouped(static_cast<std::uint64_t>(n)) + " processes";
  if (n < 0.1) return freed_ms == 0 ? "the time of 0 processes" : "less than 0.1 of a process";
  const std::string number = shortest(n);
  return "the time of " + number + (number == "1" ? " process" : " processes");
}

}  // namespace lingerd
