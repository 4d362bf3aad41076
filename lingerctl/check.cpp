// SPDX-License-Identifier: Apache-2.0
#include "lingerctl/check.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <system_error>

#include "base/numbers.h"
#include "contract/counters.h"
#include "contract/stats_page.h"
#include "contract/stats_reader.h"
#include "report/series.h"
#include "report/words.h"

namespace lingerd {
namespace {

using enum DaemonCounter;
using Limit = std::optional<std::uint64_t> CheckLimits::*;

constexpr std::uint64_t kWhole = 10'000;  // all of it, in hundredths of a percent

struct LimitName {
  std::string_view name;
  Limit limit;
  bool share;
};
constexpr std::array kLimitNames{LimitName{"queue", &CheckLimits::queue, true},
                                 LimitName{"fallbacks", &CheckLimits::fallbacks, true},
                                 LimitName{"evicted", &CheckLimits::evicted, false},
                                 LimitName{"rejected", &CheckLimits::rejected, false},
                                 LimitName{"peers", &CheckLimits::peers, false}};

bool parse_number(std::string_view text, std::uint64_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size();
}

// "5", "5%", "0.25": at most two decimals.
bool parse_share(std::string_view text, std::uint64_t& out) {
  if (text.ends_with('%')) text.remove_suffix(1);
  const auto point = text.find('.');
  std::string digits(text.substr(0, point));
  std::string_view decimals = point == text.npos ? "" : text.substr(point + 1);
  if (digits.empty() || decimals.size() > 2 || (point != text.npos && decimals.empty())) {
    return false;
  }
  digits.append(decimals).append(2 - decimals.size(), '0');
  return parse_number(digits, out) && out <= kWhole;
}

std::string parse_limit(std::string_view item, CheckLimits& out) {
  const auto equals = item.find('=');
  const std::string_view name = equals == item.npos ? "queue" : item.substr(0, equals);
  const std::string_view value = equals == item.npos ? item : item.substr(equals + 1);
  const auto* const known = std::ranges::find(kLimitNames, name, &LimitName::name);
  if (known == kLimitNames.end()) {
    return "'" + std::string(name) + "' is not queue, fallbacks, evicted, rejected or peers";
  }
  if (value == "off") {
    (out.*(known->limit)).reset();
    return {};
  }
  std::uint64_t number = 0;
  if (known->share ? parse_share(value, number) : parse_number(value, number)) {
    out.*(known->limit) = number;
    return {};
  }
  return "'" + std::string(item) + "' is not " +
         (known->share ? "a percentage, 0 to 100" : "a whole number") + ", or off";
}

std::uint64_t share_of(std::uint64_t part, std::uint64_t whole) {
  if (whole == 0) return 0;
  return whole_number(static_cast<double>(part) * kWhole / static_cast<double>(whole));
}

class Judge {
 public:
  Judge(const Report& report, const CheckLimits& warn, const CheckLimits& crit)
      : report_(report), counters_(report.daemon.snapshot.counters), warn_(warn), crit_(crit) {}

  CheckResult judge() {
    if (report_.daemon.liveness == Liveness::kBusy) {
      find(CheckStatus::kCritical, "busy: " + state_detail(report_));
    }
    compare(queue_share_, &CheckLimits::queue, "the queue is long");
    compare(fallback_share_, &CheckLimits::fallbacks,
            decimal(fallback_share_, 2) + "% of httpd's connections fell back in 10 minutes");
    compare(evicted_, &CheckLimits::evicted, grouped(evicted_) + " evicted in 10 minutes");
    compare(rejected_, &CheckLimits::rejected, grouped(rejected_) + " rejected in 10 minutes");
    few_peers();
    return {status_, line()};
  }

 private:
  void find(CheckStatus status, const std::string& words) {
    status_ = std::max(status_, status);
    words_ += words + ", ";
  }

  void compare(std::uint64_t value, Limit limit, const std::string& words) {
    if (crit_.*limit && value >= *(crit_.*limit)) {
      find(CheckStatus::kCritical, words);
    } else if (warn_.*limit && value >= *(warn_.*limit)) {
      find(CheckStatus::kWarning, words);
    }
  }

  void few_peers() {
    const std::string words = "too few processes of httpd are connected";
    if (crit_.peers && counters_[kPeers] < *crit_.peers) {
      find(CheckStatus::kCritical, words);
    } else if (warn_.peers && counters_[kPeers] < *warn_.peers) {
      find(CheckStatus::kWarning, words);
    }
  }

  [[nodiscard]] std::string line() const {
    static constexpr const char* kWords[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};
    std::string out = std::string("LINGERD ") + kWords[static_cast<int>(status_)] + " - " + words_;
    if (report_.daemon.liveness == Liveness::kUp) out += "up " + state_detail(report_) + ", ";
    out += "queue " + grouped(counters_[kQueue]) + " of " + grouped(counters_[kQueueLimit]) + " (" +
           percent_text(counters_[kQueue], counters_[kQueueLimit]) + "), " +
           peers_text(counters_[kPeers]);
    return out + " | " + performance();
  }

  // label=value[unit];warn;crit;min;max
  [[nodiscard]] std::string performance() const {
    const std::uint64_t limit = counters_[kQueueLimit];
    const auto of_limit = [&](std::uint64_t share) {
      return std::to_string(limit / kWhole * share + limit % kWhole * share / kWhole);
    };
    const auto percent = [](std::uint64_t share) { return decimal(share, 2); };
    const auto number = [](std::uint64_t n) { return std::to_string(n); };
    const auto below = [](std::uint64_t n) { return std::to_string(n) + ":"; };
    const auto limits = [&](Limit which, auto&& text) {
      return ";" + (warn_.*which ? text(*(warn_.*which)) : "") + ";" +
             (crit_.*which ? text(*(crit_.*which)) : "");
    };
    const auto counter = [&](const char* label, DaemonCounter c) {
      return std::string(" ") + label + "=" + std::to_string(counters_[c]) + "c";
    };
    return "queue=" + number(counters_[kQueue]) + limits(&CheckLimits::queue, of_limit) + ";0;" +
           number(limit) + " oldest=" + decimal(counters_[kOldestMillis], 3) + "s" +
           counter("taken_over", kTotal) + counter("rescued", kRescued) +
           counter("evicted", kEvicted) + counter("rejected", kRejected) +
           counter("fallbacks", kFallbacksReported) + " evicted_lately=" + number(evicted_) +
           limits(&CheckLimits::evicted, number) + ";0 rejected_lately=" + number(rejected_) +
           limits(&CheckLimits::rejected, number) +
           ";0 fallback_share=" + percent(fallback_share_) + "%" +
           limits(&CheckLimits::fallbacks, percent) + ";0;100 peers=" + number(counters_[kPeers]) +
           limits(&CheckLimits::peers, below) + ";0";
  }

  const Report& report_;
  const DaemonCounters& counters_;
  const CheckLimits& warn_;
  const CheckLimits& crit_;
  std::uint64_t queue_share_ = share_of(counters_[kQueue], counters_[kQueueLimit]);
  std::uint64_t fallbacks_ = recent(report_, &RingSample::fallbacks);
  std::uint64_t fallback_share_ =
      share_of(fallbacks_, fallbacks_ + recent(report_, &RingSample::total));
  std::uint64_t evicted_ = recent(report_, &RingSample::evicted);
  std::uint64_t rejected_ = recent(report_, &RingSample::rejected);
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
  CheckLimits limits = out;
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
