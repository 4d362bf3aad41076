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
#include "report/words.h"

namespace lingerd {
namespace {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out.push_back(c);
    }
  }
  return out;
}

const CounterInfo& info(DaemonCounter c) {
  return kDaemonCounterInfo[static_cast<std::size_t>(c)];
}
const CounterInfo& info(ModuleCounter c) {
  return kModuleCounterInfo[static_cast<std::size_t>(c)];
}

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

void row(std::string& out, const CounterInfo& what, std::uint64_t value, std::uint64_t whole,
         std::string_view classes = {}) {
  out += classes.empty() ? "<tr" : "<tr class=\"" + std::string(classes) + "\"";
  out += " title=\"" + escaped(what.help) + "\"><th>" + escaped(what.label) + "</th><td>" +
         grouped(value) + "</td><td>" + (whole && value ? percent_text(value, whole) : "") +
         "</td></tr>\n";
}

void footer(std::string& out, const std::string& label, std::uint64_t value) {
  out += "<tfoot><tr><th>" + label + "</th><td>" + grouped(value) + "</td><td></td></tr></tfoot>\n";
}

void ends_table(std::string& out, const DaemonCounters& c) {
  using enum DaemonCounter;
  const std::uint64_t ended = ended_lingers(c);
  out += "<div><table><caption>How lingers ended</caption>\n";
  for (const DaemonCounter end : counters_in<CounterGroup::kLingerEnds>()) {
    row(out, info(end), c[end], ended, end == kEvicted && c[end] != 0 ? "linger-look" : "");
  }
  footer(out, "Ended", ended);
  out += "</table><small>Taken over: " + grouped(c[kTotal]) + ", of which " + grouped(c[kQueue]) +
         (c[kQueue] == 1 ? " lingers now." : " linger now.");
  // No end of a linger: it never began.
  if (c[kRejected]) {
    out += " <span class=\"linger-f\" title=\"" + escaped(info(kRejected).help) +
           "\">Rejected: " + grouped(c[kRejected]) + ".</span>";
  }
  out += "</small></div>\n";
}

// Only where LingerOffload has done something: most sites leave it off.
void deliveries_table(std::string& out, const DaemonCounters& c) {
  using enum DaemonCounter;
  if (c[kOffloads] == 0) return;
  out += "<div><table><caption>Responses offloaded</caption>\n";
  for (const DaemonCounter end : counters_in<CounterGroup::kDeliveryEnds>()) {
    row(out, info(end), c[end], c[kOffloads]);
  }
  footer(out, "Offloaded", c[kOffloads]);
  if (c[kOffloadsRefused]) row(out, info(kOffloadsRefused), c[kOffloadsRefused], 0, "linger-look");
  out += "</table><small>" + escaped(info(kOffloadPending).label) + ": " +
         bytes_text(c[kOffloadPending]) + " of " + bytes_text(c[kOffloadBytes]) + ". " +
         escaped(info(kOffloadMemory).label) + ": " + bytes_text(c[kOffloadMemory]) +
         " of at most " + bytes_text(c[kOffloadMemoryLimit]) + ".</small></div>\n";
}

// Only where LingerKeepAlive has done something.
void parking_table(std::string& out, const DaemonCounters& c) {
  using enum DaemonCounter;
  if (c[kParkedTotal] == 0) return;
  out += "<div><table><caption>Idle connections parked</caption>\n";
  for (const DaemonCounter end : counters_in<CounterGroup::kStayEnds>()) {
    row(out, info(end), c[end], c[kParkedTotal],
        end == kReturnFailed && c[end] != 0 ? "linger-look" : "");
  }
  footer(out, "Parked", c[kParkedTotal]);
  out += "</table><small>" + grouped(c[kParked]) +
         (c[kParked] == 1 ? " waits now. " : " wait now. ") +
         "Worker time freed: " + duration_text(c[kParkMillisFreed]) + ".</small></div>\n";
}

// Only where LingerKeepAliveTLS has done something.
void tls_note(std::string& out, const ModuleCounters& c) {
  using enum ModuleCounter;
  if (c[kParkedTlsTotal] == 0) return;
  const std::uint64_t went_on = c[kTlsResumed];
  out += "<small>Parked over TLS: " + grouped(c[kParkedTlsTotal]) +
         "; kept now: " + grouped(c[kParkedTls]) + "; went on: " + grouped(went_on) + ", in " +
         decimal(went_on ? c[kTlsResumeMicros] * 10 / went_on : 0, 1) + " &micro;s each.</small>";
}

void fates_table(std::string& out, const ModuleCounters& c) {
  using enum ModuleCounter;
  const std::uint64_t all =
      c[kHandoffs] + c[kAlreadyClosed] + c[kFallbacks] + c[kAborted] + c[kLeftOff];
  out += "<div><table><caption>What became of httpd's connections</caption>\n";
  row(out, info(kHandoffs), c[kHandoffs], all);
  row(out, info(kAlreadyClosed), c[kAlreadyClosed], all);
  row(out, info(kFallbacks), c[kFallbacks], all, c[kFallbacks] ? "linger-look" : "");
  for (const ModuleCounter why : {kFallbacksDown, kFallbacksBusy, kFallbacksDenied}) {
    row(out, info(why), c[why], all, c[why] ? "linger-in linger-look" : "linger-in");
  }
  row(out, info(kAborted), c[kAborted], all);
  row(out, info(kLeftOff), c[kLeftOff], all);
  if (c[kReturnsRefused]) row(out, info(kReturnsRefused), c[kReturnsRefused], 0, "linger-look");
  if (c[kTlsRefused]) row(out, info(kTlsRefused), c[kTlsRefused], 0, "linger-look");
  footer(out, "Closed by httpd", all);
  out += "</table>";
  if (c[kHandoffs]) {
    out += "<small>A hand-off takes " + decimal(c[kHandoffMicros] * 10 / c[kHandoffs], 1) +
           " &micro;s of a worker.</small>";
  }
  tls_note(out, c);
  out += "</div>\n";
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
  if (report.module) fates_table(out, *report.module);
  if (up) {
    ends_table(out, report.daemon.snapshot.counters);
    deliveries_table(out, report.daemon.snapshot.counters);
    parking_table(out, report.daemon.snapshot.counters);
  }
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
