// SPDX-License-Identifier: Apache-2.0
// What lingerctl prints, and what its check decides.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "contract/counters.h"
#include "contract/stats_page.h"
#include "contract/stats_reader.h"
#include "lingerctl/check.h"
#include "lingerctl/text.h"
#include "report/report.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;  // NOLINT: a test

namespace {

using D = DaemonCounter;
constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kNow = 100'000 * kSecond;

Report report_of(std::uint64_t queue, std::uint64_t limit) {
  Report report;
  report.now_ns = kNow;
  report.socket_path = "/run/lingerd/lingerd.sock";
  report.daemon.liveness = Liveness::kUp;
  report.daemon.snapshot.heartbeat_ns = kNow;
  report.daemon.snapshot.pid = 4711;
  DaemonCounters& c = report.daemon.snapshot.counters;
  c[D::kQueue] = queue;
  c[D::kQueueLimit] = limit;
  c[D::kTotal] = 5'000;
  c[D::kUptimeSeconds] = 7'200;
  c[D::kPeers] = 4;
  report.daemon.snapshot.started_ns = kNow - 7'200 * kSecond;
  return report;
}

Report down(StatsProblem why, const std::string& problem) {
  Report report;
  report.now_ns = kNow;
  report.daemon.why = why;
  report.daemon.problem = problem;
  return report;
}

// A sample of `back` slots ago.
void sample(Report& report, std::uint64_t back, RingSample sample) {
  sample.slot = kNow / kSecond / kRingSeconds - back;
  report.daemon.snapshot.ring[sample.slot % kRingSamples] = sample;
}

CheckLimits limits(const char* text) {
  CheckLimits out;
  CHECK_TRUE(parse_limits(text, out).empty());
  return out;
}

CheckResult check_default(const Report& report) {
  return check(report, limits(kDefaultWarn), limits(kDefaultCrit));
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

std::string problem_of(const char* text) {
  CheckLimits out;
  return parse_limits(text, out);
}

}  // namespace

TEST_GROUP(Limits){};

TEST(Limits, a_list_or_one_number) {
  const CheckLimits one = limits("80%");
  CHECK_EQUAL(8'000U, *one.queue);
  CHECK_FALSE(one.evicted.has_value());
  const CheckLimits list = limits("queue=50,fallbacks=0.25%,evicted=1,rejected=10,peers=2");
  CHECK_EQUAL(5'000U, *list.queue);
  CHECK_EQUAL(25U, *list.fallbacks);
  CHECK_EQUAL(1U, *list.evicted);
  CHECK_EQUAL(10U, *list.rejected);
  CHECK_EQUAL(2U, *list.peers);
}

TEST(Limits, what_is_not_named_stays_and_off_turns_off) {
  CheckLimits limits;
  STRCMP_EQUAL("", parse_limits(kDefaultWarn, limits).c_str());
  STRCMP_EQUAL("", parse_limits("50,evicted=off", limits).c_str());
  CHECK_EQUAL(5'000U, *limits.queue);
  CHECK_EQUAL(100U, *limits.fallbacks);
  CHECK_FALSE(limits.evicted.has_value());
  CHECK_FALSE(parse_limits("10,evicted=x", limits).empty());
  CHECK_EQUAL(5'000U, *limits.queue);
}

TEST(Limits, each_problem_names_what_was_given) {
  CHECK_TRUE(has(problem_of("lots"), "'lots' is not a percentage"));
  CHECK_TRUE(has(problem_of("101"), "'101' is not a percentage"));
  CHECK_TRUE(has(problem_of("-1"), "'-1' is not a percentage"));
  CHECK_TRUE(has(problem_of("100.01"), "'100.01' is not a percentage"));
  CHECK_TRUE(has(problem_of("1.234"), "'1.234' is not a percentage"));
  CHECK_TRUE(has(problem_of("1."), "'1.' is not a percentage"));
  CHECK_TRUE(has(problem_of(".5"), "'.5' is not a percentage"));
  CHECK_TRUE(has(problem_of(""), "'' is not a percentage"));
  CHECK_TRUE(has(problem_of("80,"), "'' is not a percentage"));
  CHECK_TRUE(has(problem_of("evicted=x"), "'evicted=x' is not a whole number"));
  CHECK_TRUE(has(problem_of("evicted=5%"), "'evicted=5%' is not a whole number"));
  CHECK_TRUE(
      has(problem_of("length=5"), "'length' is not queue, fallbacks, evicted, rejected or peers"));
}

TEST_GROUP(Check){};

TEST(Check, ok_is_one_line_with_performance_data) {
  const CheckResult result = check_default(report_of(10, 1'000));
  CHECK_TRUE(CheckStatus::kOk == result.status);
  CHECK_TRUE(has(result.line,
                 "LINGERD OK - up for 2 h, queue 10 of 1,000 (1.0%), 4 processes of httpd "
                 "connected | queue=10;800;950;0;1000 oldest=0.000s taken_over=5000c "
                 "rescued=0c evicted=0c rejected=0c fallbacks=0c "
                 "evicted_lately=0;1;;0 rejected_lately=0;;;0 "
                 "fallback_share=0.00%;1.00;;0;100 peers=4;;;0"));
  CHECK_FALSE(has(result.line, "\n"));
}

TEST(Check, the_queues_share_decides) {
  CHECK_TRUE(CheckStatus::kOk == check_default(report_of(799, 1'000)).status);
  CHECK_TRUE(CheckStatus::kWarning == check_default(report_of(800, 1'000)).status);
  CHECK_TRUE(CheckStatus::kWarning == check_default(report_of(949, 1'000)).status);
  CHECK_TRUE(CheckStatus::kCritical == check_default(report_of(950, 1'000)).status);
}

// What was counted before the ring began is history: a check that warns of it would for ever.
TEST(Check, evictions_and_rejections_of_the_last_ten_minutes_by_their_limits) {
  Report report = report_of(1, 1'000);
  sample(report, 100, {.evicted = 7, .rejected = 5});
  sample(report, 0, {.evicted = 7, .rejected = 5});
  CHECK_TRUE(CheckStatus::kOk == check_default(report).status);
  sample(report, 50, {.evicted = 9, .rejected = 6});
  sample(report, 0, {.evicted = 10, .rejected = 7});
  const CheckResult result = check_default(report);
  CHECK_TRUE(CheckStatus::kWarning == result.status);
  CHECK_TRUE(has(result.line, "LINGERD WARNING - 3 evicted in 10 minutes, up for "));
  CHECK_TRUE(has(result.line, " evicted_lately=3;1;;0 rejected_lately=2;;;0 "));
  CHECK_TRUE(CheckStatus::kWarning == check(report, limits("evicted=3"), {}).status);
  CHECK_TRUE(CheckStatus::kOk == check(report, limits("evicted=4"), {}).status);
  CHECK_TRUE(CheckStatus::kCritical == check(report, {}, limits("rejected=2")).status);
}

TEST(Check, the_share_of_fallbacks_of_the_last_ten_minutes) {
  Report report = report_of(1, 1'000);
  sample(report, 100, {.total = 1'000, .fallbacks = 500});
  sample(report, 1, {.total = 1'990, .fallbacks = 510});
  const CheckResult result = check_default(report);
  CHECK_TRUE(CheckStatus::kWarning == result.status);
  CHECK_TRUE(has(result.line, "1.00% of httpd's connections fell back in 10 minutes"));
  CHECK_TRUE(has(result.line, " fallback_share=1.00%;1.00;;0;100 "));
  CHECK_TRUE(CheckStatus::kOk == check(report, limits("fallbacks=1.01"), {}).status);
  CHECK_TRUE(CheckStatus::kCritical == check(report, {}, limits("fallbacks=0.5")).status);
}

TEST(Check, too_few_peers) {
  Report report = report_of(1, 1'000);
  CHECK_TRUE(CheckStatus::kOk == check(report, limits("peers=4"), {}).status);
  CHECK_TRUE(CheckStatus::kCritical == check(report, {}, limits("peers=5")).status);
  report.daemon.snapshot.counters[D::kPeers] = 0;
  CHECK_TRUE(has(check_default(report).line, "no httpd connected"));
}

TEST(Check, busy_and_down_are_critical) {
  Report busy = report_of(1, 1'000);
  busy.daemon.liveness = Liveness::kBusy;
  busy.daemon.snapshot.heartbeat_ns = kNow - 9 * kSecond;
  const CheckResult result = check_default(busy);
  CHECK_TRUE(CheckStatus::kCritical == result.status);
  CHECK_TRUE(has(result.line, "LINGERD CRITICAL - busy: no sign of life for 9.0 s"));
  CHECK_TRUE(CheckStatus::kCritical == check_default(down(StatsProblem::kNoWriter, "gone")).status);
  CHECK_TRUE(CheckStatus::kCritical == check_default(down(StatsProblem::kNoPage, "none")).status);
}

TEST(Check, not_being_able_to_look_is_unknown) {
  for (const StatsProblem why : {StatsProblem::kDenied, StatsProblem::kNotAPage,
                                 StatsProblem::kOtherVersion, StatsProblem::kSystem}) {
    const CheckResult result = check_default(down(why, "no|\nway"));
    CHECK_TRUE(CheckStatus::kUnknown == result.status);
    CHECK_TRUE("LINGERD UNKNOWN - no??way" == result.line);
  }
}

TEST_GROUP(Screen){};

TEST(Screen, fits_a_plain_terminal) {
  Report report = report_of(342, 19'000);
  DaemonCounters& c = report.daemon.snapshot.counters;
  for (auto& value : c.array()) value += 48'211'934;
  c[D::kTotal] = 400'000'000;
  const std::string text = screenful(report, {});
  std::size_t lines = 0;
  for (std::size_t at = 0; at < text.size(); ++lines) {
    const std::size_t end = text.find('\n', at);
    CHECK_TRUE(end - at <= 80);
    at = end + 1;
  }
  CHECK_TRUE(lines <= 23);  // and the cursor
  for (const char c : text) CHECK_TRUE(c == '\n' || (c >= ' ' && c <= '~'));
}

TEST(Screen, while_down_there_are_no_counters) {
  const std::string text = screenful(down(StatsProblem::kNoPage, "there is no /x"), {});
  CHECK_TRUE(has(text, "lingerd is down: there is no /x\n"));
  CHECK_FALSE(has(text, "Queue"));
}

TEST(Screen, rates_are_since_the_last_look) {
  const Report before = report_of(1, 1'000);
  Report now = before;
  now.now_ns += 2 * kSecond;
  now.daemon.snapshot.counters[D::kTotal] += 500;
  now.daemon.snapshot.counters[D::kWorkerMillisFreed] += 9'000;
  const std::string text = live_screen(before, now, {});
  CHECK_TRUE(has(text, "5,500                     250\n"));
  CHECK_TRUE(has(text, "4.5 processes\n"));
}

TEST(Screen, there_is_no_rate_across_a_restart) {
  const Report before = report_of(1, 1'000);
  Report now = before;
  now.now_ns += kSecond;
  now.daemon.snapshot.started_ns += 1;
  CHECK_TRUE(has(live_screen(before, now, {}), "5,000                       -\n"));
}

TEST(Screen, every_counter_is_explained) {
  const std::string text = explain_counters();
  for (const auto& info : kDaemonCounterInfo) CHECK_TRUE(has(text, info.help));
  for (const auto& info : kModuleCounterInfo) CHECK_TRUE(has(text, info.help));
  CHECK_TRUE(
      has(text, "LingerDrainedBytes (Drained; counter, bytes; lingerd_drained_bytes_total)"));
}
