// SPDX-License-Identifier: Apache-2.0
// The section of server-status. Agents that read that page's HTML look for mod_status's own words
// in <dt> and <pre>: neither is used here.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/numbers.h"
#include "contract/counters.h"
#include "contract/stats_page.h"
#include "report/chart.h"
#include "report/report.h"
#include "report/series.h"
#include "report/style.h"
#include "report/tables.h"
#include "report/words.h"

namespace lingerd {
namespace {

// In the ten minutes of the charts. Zero without the module.
std::uint64_t recent_fallbacks(const Report& report) {
  double per_second = 0;
  for (const auto& value : fallback_series(report)) per_second += *value;
  return whole_number(per_second * kRingSeconds);
}

void head(std::string& out, const Report& report) {
  const bool up = report.daemon.liveness == Liveness::kUp;
  out += "<div class=\"linger-head\">\n<h2>Linger</h2>\n<p class=\"linger-state\"><b>lingerd is " +
         std::string(state_word(report.daemon.liveness)) + "</b>" + (up ? " " : ": ") +
         escaped(state_detail(report)) + "</p>\n";
  if (const std::uint64_t fallen = recent_fallbacks(report)) {
    out += "<p class=\"linger-state linger-note\">" + grouped(fallen) +
           (fallen == 1 ? " fallback" : " fallbacks") + " in the last 10 minutes</p>\n";
  }
  if (const std::uint64_t evicted = recent(report, &RingSample::evicted);
      evicted != 0 && report.daemon.liveness != Liveness::kDown) {
    out += "<p class=\"linger-state linger-note\">" + grouped(evicted) +
           " evicted in the last 10 minutes: raise --max-connections</p>\n";
  }
  // While it is down, why is told above.
  if (!report.obstacle.empty() && report.daemon.liveness == Liveness::kUp) {
    out += "<p class=\"linger-state linger-note\">" + escaped(report.obstacle) + "</p>\n";
  }
  out += "<small>";
  if (report.daemon.liveness == Liveness::kDown) {
    out += "Until it is back Apache lingers itself, or closes at once with LingerFallback close. ";
  } else if (report.daemon.liveness == Liveness::kBusy) {
    out +=
        "It is stopped or stuck, and these are its last numbers. When its queue is full Apache "
        "lingers itself. ";
  }
  if (report.daemon.liveness != Liveness::kDown) {
    out += "Process " + std::to_string(report.daemon.snapshot.pid) + ", " +
           peers_text(report.daemon.snapshot.counters[DaemonCounter::kPeers]) + ". ";
  }
  out += "Socket " + escaped(report.socket_path) + "</small>\n</div>\n";
}

void tile(std::string& out, const CounterInfo& what, const std::string& value,
          const std::string& bar, const std::string& small) {
  out += "<div title=\"" + escaped(what.help) + "\"><h3>" + escaped(what.label) +
         "</h3><p class=\"linger-number\">" + value + "</p>" + bar + "<small>" + small +
         "</small></div>\n";
}

void queue_tile(std::string& out, const DaemonCounters& c) {
  using enum DaemonCounter;
  const std::string peak = "peak " + grouped(c[kQueuePeak]) + ", limit " + grouped(c[kQueueLimit]);
  tile(out, info(kQueue), grouped(c[kQueue]),
       bar_svg(c[kQueue], c[kQueuePeak], c[kQueueLimit], grouped(c[kQueue]) + " now, " + peak),
       peak + (c[kOldestMillis] ? "; oldest&nbsp;" + duration_text(c[kOldestMillis]) : ""));
}

void tiles(std::string& out, const DaemonCounters& c) {
  using enum DaemonCounter;
  out += "<div class=\"linger-tiles\">\n";
  queue_tile(out, c);
  tile(out, info(kWorkerMillisFreed), duration_text(c[kWorkerMillisFreed]), "",
       processes_text(c[kWorkerMillisFreed], c[kUptimeSeconds]) + " since lingerd started");
  tile(out, info(kRescued), grouped(c[kRescued]), "",
       c[kTotal] ? percent_text(c[kRescued], c[kTotal]) + " of the sockets taken over"
                 : "no socket has been taken over yet");
  tile(out, info(kDrainedBytes), bytes_text(c[kDrainedBytes]), "",
       "that clients sent after the response");
  out += "</div>\n";
}

std::string per_second(const Series& series) {
  return rate_text(series.back().value_or(0)) + "/s";
}

bool any(const Series& series) {
  return std::ranges::any_of(series, [](const auto& value) { return value.value_or(0) > 0; });
}

void key(std::string& out, std::string_view name, const std::string& text) {
  out += " <span class=\"linger-key linger-" + std::string(name) + "\"><span>" + text +
         "</span></span>";
}

void plot(std::string& out, std::span<const Curve> curves, const char* unit,
          const std::string& label) {
  const double top = chart_top(curves);
  out += "</figcaption><div class=\"linger-plot\">" + chart_svg(curves, top, label) + "<small>" +
         grouped(whole_number(top)) + unit +
         "</small></div><div class=\"linger-axis\"><small>10 min ago</small> <small>now</small>"
         "</div></figure>\n";
}

void queue_chart(std::string& out, const Report& report) {
  const Series queue = queue_series(report);
  const std::array curves{Curve{&queue, "q", "#2f6bd8"}};
  out += "<figure><figcaption><b>Queue</b>";
  key(out, "q", "most in 5 s");
  const bool gap = std::ranges::any_of(queue, [](const auto& value) { return !value; });
  if (gap) key(out, "g", "not known");
  plot(out, curves, "", "Queue in the last 10 minutes");
}

// lingerd's own totals stand in where there is no module to ask.
void rate_chart(std::string& out, const Report& report) {
  const Series handoffs = report.module ? handoff_series(report) : taken_over_series(report);
  const Series fallbacks = fallback_series(report);
  const std::array curves{Curve{&handoffs, "h", "#0b8f72"}, Curve{&fallbacks, "f", "#d4541a"}};
  out += "<figure><figcaption><b>Per second</b>";
  key(out, "h", "hand-offs " + per_second(handoffs));
  if (report.module) key(out, "f", "fallbacks " + per_second(fallbacks));
  plot(out, std::span(curves).first(any(fallbacks) ? 2 : 1), "/s",
       "Hand-offs and fallbacks per second in the last 10 minutes");
}

std::string section(const Report& report) {
  const bool up = report.daemon.liveness != Liveness::kDown;
  std::string out = kStyle;
  out += "<div id=\"linger\" class=\"linger linger-" +
         std::string(state_word(report.daemon.liveness)) + "\">\n";
  head(out, report);
  if (up) tiles(out, report.daemon.snapshot.counters);
  out += "<div class=\"linger-pair\">\n";
  queue_chart(out, report);
  rate_chart(out, report);
  out += "</div>\n<div class=\"linger-pair\">\n";
  if (report.module) module_table(out, *report.module);
  if (up) daemon_tables(out, report.daemon.snapshot.counters);
  return out + "</div>\n</div>\n";
}

}  // namespace

std::string html_section(const Report& report) {
  return "<hr />\n" + section(report);
}

std::string html_page(const Report& report, unsigned refresh_seconds) {
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  if (refresh_seconds != 0) {
    out += "<meta http-equiv=\"refresh\" content=\"" + std::to_string(refresh_seconds) + "\">\n";
  }
  out += "<title>Linger: " + std::string(state_word(report.daemon.liveness)) + "</title>\n";
  out += kPageStyle;
  out += "</head><body>\n<nav>";
  out += refresh_seconds != 0 ? "<a href=\"?\">Stop refreshing</a>"
                              : "<a href=\"?refresh=5\">Refresh every 5 s</a>";
  out +=
      "<a href=\"?auto\">Plain text</a><a href=\"?json\">JSON</a>"
      "<a href=\"?metrics\">OpenMetrics</a></nav>\n";
  return out + section(report) + "</body></html>\n";
}

}  // namespace lingerd
