// SPDX-License-Identifier: Apache-2.0
#include "lingerd/lingerctl_check.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "lingerd/report_words.h"

namespace lingerd {
namespace {

using enum DaemonCounter;

bool parse_number(std::string_view text, std::uint64_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size();
}

std::string parse_limit(std::string_view item, CheckLimits& out) {
  const auto equals = item.find('=');
  const std::string_view name = equals == item.npos ? "queue" : item.substr(0, equals);
  std::string_view value = equals == item.npos ? item : item.substr(equals + 1);
  const bool queue = name == "queue";
  if (!queue && name != "evicted" && name != "rejected") {
    return "'" + std::string(name) + "' is not queue, evicted or rejected";
  }
  if (queue && value.ends_with('%')) value.remove_suffix(1);
  std::uint64_t number = 0;
  if (!parse_number(value, number) || (queue && number > 100)) {
    return "'" + std::string(item) + "' is not " +
           (queue ? "a percentage of the queue's limit, 0 to 100" : "a whole number");
  }
  (queue ? out.queue_percent : name == "evicted" ? out.evicted : out.rejected) = number;
  return {};
}

struct Finding {
  CheckStatus status;
  std::string words;
};

class Judge {
 public:
  Judge(const Report& report, const CheckLimits& warn, const CheckLimits& crit)
      : report_(report), counters_(report.daemon.snapshot.counters), warn_(warn), crit_(crit) {}

  CheckResult judge() {
    if (report_.daemon.liveness == Liveness::kBusy) {
      find(CheckStatus::kCritical, "busy: " + state_detail(report_));
    }
    const std::uint64_t limit = std::max<std::uint64_t>(counters_[kQueueLimit], 1);
    compare(counters_[kQueue] * 100 / limit, &CheckLimits::queue_percent, "the queue is long");
    compare(counters_[kEvicted], &CheckLimits::evicted,
            grouped(counters_[kEvicted]) + " evicted since lingerd started");
    compare(counters_[kRejected], &CheckLimits::rejected,
            grouped(counters_[kRejected]) + " rejected since lingerd started");
    recent_evictions();
    return {status_, line()};
  }

 private:
  void find(CheckStatus status, const std::string& words) {
    status_ = std::max(status_, status);
    words_ += words + ", ";
  }

  void compare(std::uint64_t value, std::optional<std::uint64_t> CheckLimits::*limit,
               const std::string& words) {
    if (crit_.*limit && value >= *(crit_.*limit)) {
      find(CheckStatus::kCritical, words);
    } else if (warn_.*limit && value >= *(warn_.*limit)) {
      find(CheckStatus::kWarning, words);
    }
  }

  // The page has a history of the queue, not of evictions. Lingers are evicted at the limit only;
  // what has just arrived counts towards it, but not yet as queue.
  void recent_evictions() {
    if (counters_[kEvicted] == 0) return;
    const std::uint64_t newest = report_.now_ns / 1'000'000'000 / kRingSeconds;
    const std::uint64_t near = counters_[kQueueLimit] - counters_[kQueueLimit] / 10;
    const bool full = std::ranges::any_of(report_.daemon.snapshot.ring, [&](const RingSample& s) {
      return s.slot != 0 && s.slot + kRingSamples > newest && s.queue >= near;
    });
    if (full) find(CheckStatus::kWarning, "at its limit in the last 10 minutes, lingers evicted");
  }

  [[nodiscard]] std::string line() const {
    static constexpr const char* kWords[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};
    std::string out = std::string("LINGERD ") + kWords[static_cast<int>(status_)] + " - " + words_;
    if (report_.daemon.liveness == Liveness::kUp) out += "up " + state_detail(report_) + ", ";
    out += "queue " + grouped(counters_[kQueue]) + " of " + grouped(counters_[kQueueLimit]) + " (" +
           percent_text(counters_[kQueue], counters_[kQueueLimit]) + ")";
    return out + " | " + performance();
  }

  // label=value[unit];warn;crit;min;max
  [[nodiscard]] std::string performance() const {
    const std::uint64_t limit = counters_[kQueueLimit];
    const auto share = [&](std::optional<std::uint64_t> percent) {
      return percent ? std::to_string(limit * *percent / 100) : "";
    };
    const auto count = [](std::optional<std::uint64_t> n) { return n ? std::to_string(*n) : ""; };
    const auto counter = [&](const char* label, DaemonCounter c) {
      return std::string(" ") + label + "=" + std::to_string(counters_[c]) + "c";
    };
    return "queue=" + std::to_string(counters_[kQueue]) + ";" + share(warn_.queue_percent) + ";" +
           share(crit_.queue_percent) + ";0;" + std::to_string(limit) +
           " oldest=" + decimal(counters_[kOldestMillis], 3) + "s" + counter("taken_over", kTotal) +
           counter("rescued", kRescued) + counter("evicted", kEvicted) + ";" +
           count(warn_.evicted) + ";" + count(crit_.evicted) + counter("rejected", kRejected) +
           ";" + count(warn_.rejected) + ";" + count(crit_.rejected);
  }

  const Report& report_;
  const DaemonCounters& counters_;
  const CheckLimits& warn_;
  const CheckLimits& crit_;
  CheckStatus status_ = CheckStatus::kOk;
  std::string words_;
};

// A pipe starts the performance data, a newline ends the line: a path may have either.
std::string one_line(std::string text) {
  std::ranges::replace_if(
      text, [](char c) { return c == '|' || c == '\n'; }, '?');
  return text;
}

}  // namespace

std::string parse_limits(std::string_view text, CheckLimits& out) {
  CheckLimits limits;
  for (bool more = true; more;) {
    const auto comma = text.find(',');
    more = comma != text.npos;
    if (std::string problem = parse_limit(text.substr(0, comma), limits); !problem.empty()) {
      return problem;
    }
    if (more) text.remove_prefix(comma + 1);
  }
  out = limits;
  return {};
}

// Not being allowed to look isn't knowing that it is down.
CheckResult check(const Report& report, const CheckLimits& warn, const CheckLimits& crit) {
  if (report.daemon.liveness != Liveness::kDown) return Judge(report, warn, crit).judge();
  switch (report.daemon.why) {
    case StatsProblem::kDenied:
    case StatsProblem::kNotAPage:
    case StatsProblem::kOtherVersion:
    case StatsProblem::kSystem: return check_unknown(report.daemon.problem);
    case StatsProblem::kNone:
    case StatsProblem::kNoPage:
    case StatsProblem::kNoWriter: break;
  }
  return {CheckStatus::kCritical, "LINGERD CRITICAL - down: " + one_line(state_detail(report))};
}

CheckResult check_unknown(const std::string& why) {
  return {CheckStatus::kUnknown, "LINGERD UNKNOWN - " + one_line(why)};
}

}  // namespace lingerd
