// SPDX-License-Identifier: Apache-2.0
// The report: what lingerd and the module have counted, written out for people and for machines.
// One formatter per form, all from the two lists in counters.h. Pure: no system call, no httpd; the
// time is a field. A formatter throws nothing but std::bad_alloc.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "contract/counters.h"
#include "contract/module_ring.h"
#include "contract/stats_reader.h"

namespace lingerd {

struct Report {
  DaemonStatus daemon;
  std::optional<ModuleCounters> module;  // none: the reporter isn't httpd
  ModuleRing module_ring{};
  std::string obstacle;      // why httpd's last hand-off failed, and what to do; "" if it didn't
  std::uint64_t now_ns = 0;  // CLOCK_MONOTONIC
  std::string socket_path;
};

// "Key: value" lines for server-status?auto. The daemon's keys are left out while it is down.
[[nodiscard]] std::string auto_lines(const Report& report);

// One object, keys as in ?auto, plus "history" for charts. The daemon's keys are left out while it
// is down.
[[nodiscard]] std::string json(const Report& report);

// The same families as OpenMetrics 1.0 and in Prometheus's older text format. Both end with "#
// EOF".
enum class MetricsFormat { kOpenMetrics, kPrometheus };
[[nodiscard]] std::string metrics(const Report& report, MetricsFormat format);
[[nodiscard]] const char* content_type(MetricsFormat format);

// For an HTTP request's Accept header ("" if none): OpenMetrics, except for a client that takes
// text and doesn't know OpenMetrics (an old scraper, or a person's browser, which would save it).
[[nodiscard]] MetricsFormat preferred_metrics(std::string_view accept);

// The section at the end of mod_status's page: its own background and style, no script.
[[nodiscard]] std::string html_section(const Report& report);

// The same section as a page of its own; reloads itself unless `refresh_seconds` is 0.
[[nodiscard]] std::string html_page(const Report& report, unsigned refresh_seconds);

}  // namespace lingerd
