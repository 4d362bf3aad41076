// SPDX-License-Identifier: Apache-2.0
// What lingerctl prints, and what its check decides.
#include <string>
#include <string_view>

#include "lingerd/lingerctl_check.h"
#include "lingerd/lingerctl_text.h"
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
  return report;
}

Report down(StatsProblem why, const std::string& problem) {
  Report report;
  report.now_ns = kNow;
  report.daemon.why = why;
  report.daemon.problem = problem;
  return report;
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
  CHECK_EQUAL(80U, *one.queue_percent);
  CHECK_FALSE(one.evicted.has_value());
  const CheckLimits list = limits("queue=50,evicted=1,rejected=10");
  CHECK_EQUAL(50U, *list.queue_percent);
  CHECK_EQUAL(1U, *list.evicted);
  CHECK_EQUAL(10U, *list.rejected);
}

TEST(Limits, each_problem_names_what_was_given) {
  CHECK_TRUE(has(problem_of("lots"), "'lots' is not a percentage"));
  CHECK_TRUE(has(problem_of("101"), "'101' is not a percentage"));
  CHECK_TRUE(has(problem_of("-1"), "'-1' is not a percentage"));
  CHECK_TRUE(has(problem_of(""), "'' is not a percentage"));
  CHECK_TRUE(has(problem_of("80,"), "'' is not a percentage"));
  CHECK_TRUE(has(problem_of("evicted=x"), "'evicted=x' is not a whole number"));
  CHECK_TRUE(has(problem_of("evicted=5%"), "'evicted=5%' is not a whole number"));
  CHECK_TRUE(has(problem_of("length=5"), "'length' is not queue, evicted or rejected"));
}

TEST_GROUP(Check){};

TEST(Check, ok_is_one_line_with_performance_data) {
  const CheckResult result = check_default(report_of(10, 1'000));
  CHECK_TRUE(CheckStatus::kOk == result.status);
  CHECK_TRUE(has(result.line, "LINGERD OK - up for 2 h, queue 10 of 1,000 (1.0%) | "));
  CHECK_TRUE(has(result.line, "| queue=10;800;950;0;1000 oldest=0.000s taken_over=5000c"));
  CHECK_FALSE(has(result.line, "\n"));
}

TEST(Check, the_queues_share_decides) {
  CHECK_TRUE(CheckStatus::kOk == check_default(report_of(799, 1'000)).status);
  CHECK_TRUE(CheckStatus::kWarning == check_default(report_of(800, 1'000)).status);
  CHECK_TRUE(CheckStatus::kWarning == check_default(report_of(949, 1'000)).status);
  CHECK_TRUE(CheckStatus::kCritical == check_default(report_of(950, 1'000)).status);
}

TEST(Check, evictions_and_rejections_by_their_limits) {
  Report report = report_of(1, 1'000);
  report.daemon.snapshot.counters[D::kEvicted] = 3;
  report.daemon.snapshot.counters[D::kRejected] = 3;
  CHECK_TRUE(CheckStatus::kOk == check_default(report).status);
  CHECK_TRUE(CheckStatus::kWarning == check(report, limits("evicted=3"), {}).status);
  CHECK_TRUE(CheckStatus::kCritical == check(report, {}, limits("rejected=2")).status);
}

TEST(Check, evictions_of_the_last_ten_minutes_are_a_warning) {
  Report report = report_of(1, 1'000);
  report.daemon.snapshot.counters[D::kEvicted] = 3;
  const std::uint64_t slot = kNow / kSecond / kRingSeconds;
  auto& ring = report.daemon.snapshot.ring;
  ring[0] = {slot - 10, 1'000, 4'000};
  CHECK_TRUE(CheckStatus::kWarning == check_default(report).status);
  ring[0].slot = slot - kRingSamples;
  CHECK_TRUE(CheckStatus::kOk == check_default(report).status);
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
  CHECK_TRUE(lines <= 22);
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
