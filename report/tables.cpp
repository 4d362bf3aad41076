// SPDX-License-Identifier: Apache-2.0
#include "report/tables.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/numbers.h"
#include "contract/counters.h"
#include "report/words.h"

namespace lingerd {
namespace {

const CounterInfo& info(ModuleCounter c) {
  return kModuleCounterInfo[static_cast<std::size_t>(c)];
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

// Only where LingerRequest has done something.
void request_table(std::string& out, const DaemonCounters& c) {
  using enum DaemonCounter;
  if (c[kGatherTotal] == 0) return;
  out += "<div><table><caption>Requests that came slowly</caption>\n";
  for (const DaemonCounter end : counters_in<CounterGroup::kGatherEnds>()) {
    row(out, info(end), c[end], c[kGatherTotal]);
  }
  footer(out, "Taken", c[kGatherTotal]);
  out += "</table><small>" + grouped(c[kGathering]) + " now, with " + bytes_text(c[kGatherMemory]) +
         ". Worker time freed: " + duration_text(c[kGatherMillisFreed]) + ".</small></div>\n";
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

}  // namespace

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

void daemon_tables(std::string& out, const DaemonCounters& counters) {
  ends_table(out, counters);
  deliveries_table(out, counters);
  parking_table(out, counters);
  request_table(out, counters);
}

void module_table(std::string& out, const ModuleCounters& c) {
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

}  // namespace lingerd
