// SPDX-License-Identifier: Apache-2.0
// The section of server-status. Agents that read that page's HTML look for mod_status's own words
// in <dt> and <pre>: neither is used here.
#include <array>

#include "lingerd/report.h"
#include "lingerd/report_chart.h"
#include "lingerd/report_series.h"
#include "lingerd/report_style.h"
#include "lingerd/report_words.h"

namespace lingerd {
namespace {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

std::string number(std::uint64_t value) {
  return grouped(value);
}

const CounterInfo& info(DaemonCounter c) {
  return kDaemonCounterInfo[static_cast<std::size_t>(c)];
}
const CounterInfo& info(ModuleCounter c) {
  return kModuleCounterInfo[static_cast<std::size_t>(c)];
}

void head(std::string& out, const Report& report) {
  out += "<div class=\"linger-head\">\n<h2>Linger</h2>\n<p class=\"linger-state\"><b>lingerd is " +
         std::string(state_word(report.daemon.liveness)) + "</b> " + escaped(state_detail(report)) +
         "</p>\n<small>";
  if (report.daemon.liveness == Liveness::kDown) {
    out += "Meanwhile Apache does what LingerFallback says; hand-offs resume by themselves.";
  } else {
    out += "process " + std::to_string(report.daemon.snapshot.pid);
  }
  out += " Socket: " + escaped(report.socket_path) + "</small>\n</div>\n";
}

void tile(std::string& out, const CounterInfo& what, const std::string& value,
          const std::string& bar, const std::string& small) {
  out += "<div title=\"" + escaped(what.help) + "\"><h3>" + escaped(what.label) +
         "</h3><p class=\"linger-number\">" + value + "</p>" + bar + "<small>" + small +
         "</small></div>\n";
}

void queue_tile(std::string& out, const DaemonCounters& c) {
  using enum DaemonCounter;
  const std::string peak = "peak " + number(c[kQueuePeak]) + ", limit " + number(c[kQueueLimit]);
  const bool full = c[kQueueLimit] != 0 && c[kQueue] >= c[kQueueLimit];
  const std::string bar =
      bar_svg(c[kQueue], c[kQueuePeak], c[kQueueLimit], number(c[kQueue]) + " now, " + peak);
  tile(out, info(kQueue), number(c[kQueue]),
       full ? "<span class=\"linger-full\">" + bar + "</span>" : bar,
       peak + (c[kQueue] ? "; oldest " + duration_text(c[kOldestMillis]) : ""));
}

void tiles(std::string& out, const DaemonCounters& c) {
  using enum DaemonCounter;
  out += "<div class=\"linger-tiles\">\n";
  queue_tile(out, c);
  tile(out, info(kWorkerMillisFreed), duration_text(c[kWorkerMillisFreed]), "",
       processes_text(c[kWorkerMillisFreed], c[kUptimeSeconds]) + " since lingerd started");
  tile(out, info(kRescued), number(c[kRescued]), "",
       percent_text(c[kRescued], c[kTotal]) + " of the sockets taken over");
  tile(out, info(kDrainedBytes), bytes_text(c[kDrainedBytes]), "",
       "that clients sent after the response");
  out += "</div>\n";
}

std::string per_second(const Series& series) {
  return shortest(series.back().value_or(0)) + "/s";
}

void key(std::string& out, std::string_view name, const std::string& text) {
  out += "<span class=\"linger-key linger-" + std::string(name) + "\"><span>" + text +
         "</span></span>";
}

void plot(std::string& out, std::span<const Curve> curves, const char* unit,
          const std::string& label) {
  const double top = chart_top(curves);
  out += "</figcaption><div class=\"linger-plot\">" + chart_svg(curves, top, label) + "<small>" +
         number(static_cast<std::uint64_t>(top)) + unit +
         "</small></div><div class=\"linger-axis\"><small>10 min ago</small><small>now</small>"
         "</div></figure>\n";
}

void queue_chart(std::string& out, const Report& report) {
  const Series queue = queue_series(report);
  const std::array curves{Curve{&queue, "q", "#2f6bd8"}};
  out += "<figure><figcaption>Queue, last 10 minutes";
  key(out, "q", "longest in 5 s");
  bool gap = false;
  for (const auto& value : queue) gap = gap || !value;
  if (gap) key(out, "g", "no lingerd");
  plot(out, curves, "", "Queue in the last 10 minutes");
}

void rate_chart(std::string& out, const Report& report) {
  const Series handoffs = report.module ? handoff_series(report) : taken_over_series(report);
  const Series fallbacks = fallback_series(report);
  const std::array curves{Curve{&handoffs, "h", "#0b8f72"}, Curve{&fallbacks, "f", "#d4541a"}};
  out += "<figure><figcaption>Per second, last 10 minutes";
  key(out, "h", "hand-offs " + per_second(handoffs));
  if (report.module) key(out, "f", "fallbacks " + per_second(fallbacks));
  plot(out, std::span(curves).first(report.module ? 2 : 1), "/s",
       "Hand-offs and fallbacks per second in the last 10 minutes");
}

void row(std::string& out, const CounterInfo& what, std::uint64_t value, std::uint64_t whole,
         std::string_view classes = {}) {
  out += classes.empty() ? "<tr" : "<tr class=\"" + std::string(classes) + "\"";
  out += " title=\"" + escaped(what.help) + "\"><th>" + escaped(what.label) + "</th><td>" +
         number(value) + "</td><td>" + (whole ? percent_text(value, whole) : "") + "</td></tr>\n";
}

void footer(std::string& out, const std::string& label, std::uint64_t value) {
  out += "<tfoot><tr><th>" + label + "</th><td>" + number(value) + "</td><td></td></tr></tfoot>\n";
}

void ends_table(std::string& out, const DaemonCounters& c) {
  using enum DaemonCounter;
  const std::uint64_t ended = c[kTotal] - c[kQueue];
  out += "<table><caption>How lingers ended</caption>\n";
  for (const DaemonCounter end : {kClosedByClient, kClosedByReset, kClosedIdle, kClosedCap}) {
    row(out, info(end), c[end], ended);
  }
  row(out, info(kEvicted), c[kEvicted], ended, c[kEvicted] ? "linger-look" : "");
  footer(out, "Ended, of " + number(c[kTotal]) + " taken over", ended);
  if (c[kRejected]) row(out, info(kRejected), c[kRejected], 0, "linger-look");
  out += "</table>\n";
}

void fates_table(std::string& out, const ModuleCounters& c) {
  using enum ModuleCounter;
  const std::uint64_t all =
      c[kHandoffs] + c[kAlreadyClosed] + c[kFallbacks] + c[kAborted] + c[kLeftOff];
  out += "<table><caption>What became of httpd's connections</caption>\n";
  row(out, info(kHandoffs), c[kHandoffs], all);
  row(out, info(kAlreadyClosed), c[kAlreadyClosed], all);
  row(out, info(kFallbacks), c[kFallbacks], all, c[kFallbacks] ? "linger-look" : "");
  for (const ModuleCounter why : {kFallbacksDown, kFallbacksBusy, kFallbacksDenied}) {
    row(out, info(why), c[why], all, c[why] ? "linger-in linger-look" : "linger-in");
  }
  row(out, info(kAborted), c[kAborted], all);
  row(out, info(kLeftOff), c[kLeftOff], all);
  footer(out, "Closed by httpd", all);
  out += "</table>\n";
}

}  // namespace

std::string html_section(const Report& report) {
  const bool up = report.daemon.liveness != Liveness::kDown;
  std::string out = "<hr />\n";
  out += kStyle;
  out += "<div id=\"linger\" class=\"linger linger-" +
         std::string(state_word(report.daemon.liveness)) + "\">\n";
  head(out, report);
  if (up) tiles(out, report.daemon.snapshot.counters);
  out += "<div class=\"linger-pair\">\n";
  queue_chart(out, report);
  rate_chart(out, report);
  out += "</div>\n<div class=\"linger-pair\">\n";
  if (report.module) fates_table(out, *report.module);
  if (up) ends_table(out, report.daemon.snapshot.counters);
  return out + "</div>\n</div>\n";
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
  out +=
      "</head><body>\n<nav><a href=\"?\">this page</a><a href=\"?refresh=5\">every 5 s</a>"
      "<a href=\"?auto\">auto</a><a href=\"?json\">JSON</a><a href=\"?metrics\">metrics</a></nav>"
      "\n";
  return out + html_section(report) + "</body></html>\n";
}

}  // namespace lingerd
