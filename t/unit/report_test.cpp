// SPDX-License-Identifier: Apache-2.0
// The report's forms: each has every counter, none has a number that isn't known, and none can be
// broken by what a path or a help text contains.
#include "report/report.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/numbers.h"
#include "contract/counters.h"
#include "contract/module_ring.h"
#include "contract/stats_page.h"
#include "report/chart.h"
#include "report/series.h"
#include "report/words.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;  // NOLINT: a test

namespace {

using D = DaemonCounter;
using M = ModuleCounter;

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kSlot = kRingSeconds * kSecond;
constexpr std::uint64_t kNow = 2'000 * kSlot + 2 * kSecond;
constexpr std::uint64_t kRunningSlot = 2'000;

// Each counter has a value of its own.
Report report_in(Liveness liveness) {
  Report report;
  report.now_ns = kNow;
  report.socket_path = "/run/lingerd/lingerd.sock";
  report.daemon.liveness = liveness;
  report.daemon.snapshot.heartbeat_ns = kNow - kSecond / 4;
  report.daemon.snapshot.pid = 4711;
  for (std::size_t i = 0; i < kDaemonCounters; ++i) {
    report.daemon.snapshot.counters.array()[i] = 1000 + i;
  }
  report.daemon.snapshot.counters[D::kTotal] = 9'000;
  ModuleCounters module;
  for (std::size_t i = 0; i < kModuleCounters; ++i) module.array()[i] = 2000 + i;
  report.module = module;
  if (liveness == Liveness::kDown) report.daemon.problem = "there is no /x: not started";
  return report;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    lines.push_back(text.substr(at, end - at));
    if (end == std::string::npos) break;
    at = end + 1;
  }
  return lines;
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

std::size_t count_of(const std::string& text, std::string_view part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

}  // namespace

TEST_GROUP(Counters){};

// Zabbix's template and others find a key by its end: ours must not end as another's does.
TEST(Counters, keys_are_letters_and_digits_and_no_key_ends_as_another_does) {
  std::vector<std::string> keys{"LingerUp"};
  for (const auto& info : kDaemonCounterInfo) keys.emplace_back(info.key);
  for (const auto& info : kModuleCounterInfo) keys.emplace_back(info.key);
  const std::vector<std::string> stock{
      "Uptime",      "Accesses",    "Load1",       "Load5",      "Load15",      "kBytes",
      "Duration",    "User",        "System",      "CPULoad",    "ReqPerSec",   "BytesPerSec",
      "BytesPerReq", "BusyWorkers", "IdleWorkers", "Scoreboard", "Processes",   "Stopping",
      "ConnsTotal",  "Port",        "Version",     "MPM",        "CurrentTime", "RestartTime"};
  for (const auto& key : keys) {
    CHECK_EQUAL(std::string::npos, key.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijkl"
                                                         "mnopqrstuvwxyz0123456789"));
    for (const auto& other : keys) CHECK_TRUE(&key == &other || !key.ends_with(other));
    for (const auto& other : stock) CHECK_FALSE(key.ends_with(other));
  }
}

TEST(Counters, metrics_are_of_their_program_and_in_base_units) {
  std::set<std::string_view> seen;
  const auto look = [&](const CounterInfo& info, std::string_view program) {
    CHECK_TRUE(info.metric.starts_with(program));
    CHECK_FALSE(info.metric.ends_with("_total"));
    CHECK_TRUE(seen.insert(info.metric).second);
    const bool time = info.unit != CounterUnit::kCount && info.unit != CounterUnit::kBytes;
    CHECK_EQUAL(time, info.metric.ends_with("_seconds"));
    CHECK_EQUAL(info.unit == CounterUnit::kBytes, info.metric.ends_with("_bytes"));
    CHECK_TRUE(info.help.ends_with("."));
  };
  for (const auto& info : kDaemonCounterInfo) look(info, "lingerd_");
  for (const auto& info : kModuleCounterInfo) look(info, "mod_linger_");
}

TEST_GROUP(AutoLines){};

TEST(AutoLines, each_key_once_with_its_value) {
  const Report report = report_in(Liveness::kUp);
  const auto lines = lines_of(auto_lines(report));
  CHECK_EQUAL(1 + kDaemonCounters + kModuleCounters, lines.size());
  CHECK_TRUE("LingerUp: 1" == lines[0]);
  for (const auto& line : lines) {
    const auto colon = line.find(": ");
    CHECK_TRUE(colon != std::string::npos && colon + 2 < line.size());
    CHECK_EQUAL(std::string::npos, line.find_first_not_of("0123456789", colon + 2));
  }
  CHECK_TRUE(has(auto_lines(report), "\nLingerQueue: 1000\n"));
  CHECK_TRUE(has(auto_lines(report), "\nLingerHandoffs: 2000\n"));
}

TEST(AutoLines, while_down_the_daemons_keys_are_left_out) {
  const std::string text = auto_lines(report_in(Liveness::kDown));
  CHECK_TRUE(text.starts_with("LingerUp: 0\n"));
  CHECK_EQUAL(1 + kModuleCounters, lines_of(text).size());
  for (const auto& info : kDaemonCounterInfo) {
    CHECK_FALSE(has(text, std::string(info.key) + ":"));
  }
}

TEST(AutoLines, busy_is_up_and_has_the_keys) {
  const std::string text = auto_lines(report_in(Liveness::kBusy));
  CHECK_TRUE(text.starts_with("LingerUp: 1\n"));
  CHECK_TRUE(has(text, "\nLingerQueue: 1000\n"));
}

TEST_GROUP(Json){};

TEST(Json, has_state_counters_and_history) {
  const std::string text = json(report_in(Liveness::kUp));
  CHECK_TRUE(has(text, "\"state\": \"up\""));
  CHECK_TRUE(has(text, "\"LingerQueue\": 1000"));
  CHECK_TRUE(has(text, "\"LingerHandoffs\": 2000"));
  CHECK_TRUE(has(text, "\"fallbacksPerSecond\": ["));
  CHECK_FALSE(has(text, "\"problem\""));
}

TEST(Json, while_down_has_a_reason_and_no_counters) {
  const std::string text = json(report_in(Liveness::kDown));
  CHECK_TRUE(has(text, "\"LingerUp\": 0"));
  CHECK_TRUE(has(text, "\"problem\": \"there is no /x: not started\""));
  CHECK_FALSE(has(text, "\"LingerQueue\""));
  CHECK_FALSE(has(text, "\"pid\""));
}

TEST(Json, a_path_is_quoted) {
  Report report = report_in(Liveness::kUp);
  report.socket_path = "/a\"b\\c\n\x01\xff";
  CHECK_TRUE(has(json(report), R"("socket": "/a\"b\\c\u000a\u0001?")"));
}

TEST_GROUP(Metrics){};

TEST(Metrics, open_metrics_names_families_without_total) {
  const std::string text = metrics(report_in(Liveness::kUp), MetricsFormat::kOpenMetrics);
  CHECK_TRUE(has(text, "# TYPE lingerd_sockets counter\n"));
  CHECK_TRUE(has(text, "\nlingerd_sockets_total 9000\n"));
  CHECK_TRUE(has(text, "# UNIT lingerd_drained_bytes bytes\n"));
  CHECK_TRUE(has(text, "# TYPE lingerd_queue gauge\n"));
  CHECK_TRUE(has(text, "\nlingerd_queue 1000\n"));
  CHECK_TRUE(has(text, "\nlingerd_up 1\n"));
  CHECK_TRUE(text.ends_with("\n# EOF\n"));
  CHECK_EQUAL(1U, count_of(text, "# EOF"));
}

TEST(Metrics, prometheus_names_them_as_their_samples) {
  const std::string text = metrics(report_in(Liveness::kUp), MetricsFormat::kPrometheus);
  CHECK_TRUE(has(text, "# TYPE lingerd_sockets_total counter\n"));
  CHECK_TRUE(has(text, "# HELP lingerd_sockets_total "));
  CHECK_FALSE(has(text, "# UNIT"));
}

TEST(Metrics, times_are_seconds) {
  Report report = report_in(Liveness::kUp);
  (*report.module)[M::kHandoffMicros] = 1'500'000;
  report.daemon.snapshot.counters[D::kWorkerMillisFreed] = 12;
  const std::string text = metrics(report, MetricsFormat::kOpenMetrics);
  CHECK_TRUE(has(text, "\nmod_linger_handoff_seconds_total 1.500000\n"));
  CHECK_TRUE(has(text, "\nlingerd_worker_freed_seconds_total 0.012\n"));
  CHECK_TRUE(has(text, "\nlingerd_heartbeat_age_seconds 0.250\n"));
}

TEST(Metrics, while_down_only_up_and_the_modules) {
  const std::string text = metrics(report_in(Liveness::kDown), MetricsFormat::kOpenMetrics);
  CHECK_TRUE(has(text, "\nlingerd_up 0\n"));
  CHECK_TRUE(has(text, "\nmod_linger_handoffs_total 2000\n"));
  CHECK_EQUAL(1 + kModuleCounters, count_of(text, "# TYPE "));
}

TEST(Metrics, the_clients_accept_header_chooses) {
  const auto chosen = [](std::string_view accept) { return preferred_metrics(accept); };
  const auto open = MetricsFormat::kOpenMetrics;
  CHECK_TRUE(open == chosen(""));
  CHECK_TRUE(open == chosen("*/*"));
  CHECK_TRUE(open == chosen("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"));
  CHECK_TRUE(open != chosen("text/plain;version=0.0.4;q=1,*/*;q=0.1"));
  CHECK_TRUE(open != chosen("text/html,application/xhtml+xml,*/*;q=0.8"));
}

TEST_GROUP(Html){};

TEST(Html, says_each_state) {
  CHECK_TRUE(has(html_section(report_in(Liveness::kUp)), "lingerd is up</b> for "));
  Report busy = report_in(Liveness::kBusy);
  busy.daemon.snapshot.heartbeat_ns = kNow - 12 * kSecond;
  CHECK_TRUE(has(html_section(busy), "lingerd is busy</b>: no sign of life for 12 s"));
  const std::string down = html_section(report_in(Liveness::kDown));
  CHECK_TRUE(has(down, "lingerd is down</b>: there is no /x: not started"));
  CHECK_FALSE(has(down, "How lingers ended"));
  CHECK_TRUE(has(down, "What became of httpd"));
}

TEST(Html, has_the_numbers_in_words) {
  Report report = report_in(Liveness::kUp);
  DaemonCounters& c = report.daemon.snapshot.counters;
  c[D::kWorkerMillisFreed] = 36'500'000;
  c[D::kUptimeSeconds] = 10'000;
  c[D::kDrainedBytes] = 8'123'456'789;
  const std::string text = html_section(report);
  CHECK_TRUE(has(text, "the time of 3.6 processes") || has(text, "the time of 3.7 processes"));
  CHECK_TRUE(has(text, "8.1 GB"));
  CHECK_TRUE(has(text, "peak 1,001, limit 1,002"));
}

// Monitoring agents that read mod_status's HTML look for these.
TEST(Html, has_a_line_about_tls_where_it_was_parked) {
  Report report = report_in(Liveness::kUp);
  ModuleCounters& c = *report.module;
  c[M::kParkedTls] = 12;
  c[M::kParkedTlsTotal] = 1'300;
  c[M::kTlsResumed] = 1'200;
  c[M::kTlsResumeMicros] = 300'000;
  CHECK_TRUE(has(html_section(report),
                 "Parked over TLS: 1,300; kept now: 12; went on: 1,200, in 250.0 &micro;s each."));
  c[M::kTlsResumed] = 0;
  CHECK_TRUE(has(html_section(report), "went on: 0, in 0.0 &micro;s each."));
  c[M::kParkedTlsTotal] = 0;
  CHECK_FALSE(has(html_section(report), "over TLS: "));
}

TEST(Html, uses_none_of_mod_status_own_marks) {
  const std::string text = html_section(report_in(Liveness::kUp));
  for (const char* mark : {"<dt", "<dl", "<pre", "idle workers", "currently being processed",
                           "Total accesses", "Server uptime", "<script", "http://", "https://"}) {
    CHECK_FALSE(has(text, mark));
  }
}

TEST(Html, escapes_what_it_was_given) {
  Report report = report_in(Liveness::kDown);
  report.socket_path = "/<script>&\"";
  report.daemon.problem = "no <b>";
  const std::string text = html_page(report, 0);
  CHECK_FALSE(has(text, "<script>"));
  CHECK_FALSE(has(text, "no <b>"));
  CHECK_TRUE(has(text, "/&lt;script&gt;&amp;&quot;"));
}

TEST(Html, every_element_is_closed) {
  for (const Liveness state : {Liveness::kUp, Liveness::kBusy, Liveness::kDown}) {
    const std::string text = html_page(report_in(state), 5);
    for (const std::string name : {"div", "p", "small", "table", "tr", "th", "td", "span", "svg",
                                   "figure", "figcaption", "h2", "h3", "b", "style", "body"}) {
      CHECK_EQUAL_TEXT(count_of(text, "<" + name + " ") + count_of(text, "<" + name + ">"),
                       count_of(text, "</" + name + ">"), name.c_str());
    }
  }
}

TEST(Html, refreshes_only_when_asked) {
  CHECK_TRUE(has(html_page(report_in(Liveness::kUp), 7), "http-equiv=\"refresh\" content=\"7\""));
  CHECK_FALSE(has(html_page(report_in(Liveness::kUp), 0), "http-equiv"));
}

TEST(Html, recent_fallbacks_are_in_the_head) {
  Report report = report_in(Liveness::kUp);
  CHECK_FALSE(has(html_section(report), "in the last 10 minutes</p>"));
  report.module_ring[(kRunningSlot - 3) % kRingSamples] = {kRunningSlot - 3, 0, 1'234};
  CHECK_TRUE(has(html_section(report), "1,234 fallbacks in the last 10 minutes</p>"));
}

TEST(Html, why_httpd_cannot_use_a_lingerd_that_is_up) {
  Report report = report_in(Liveness::kUp);
  report.obstacle = "httpd may not use it";
  CHECK_TRUE(has(html_section(report), "linger-note\">httpd may not use it</p>"));
  CHECK_TRUE(has(json(report), "\"obstacle\": \"httpd may not use it\""));
  report.daemon.liveness = Liveness::kDown;  // there the reason is another one
  CHECK_FALSE(has(html_section(report), "httpd may not use it"));
}

TEST(Html, recent_evictions_are_in_the_head) {
  Report report = report_in(Liveness::kUp);
  CHECK_FALSE(has(html_section(report), "evicted in the last 10 minutes"));
  auto& ring = report.daemon.snapshot.ring;
  ring[(kRunningSlot - 9) % kRingSamples] = {.slot = kRunningSlot - 9, .evicted = 70};
  ring[(kRunningSlot - 3) % kRingSamples] = {.slot = kRunningSlot - 3, .evicted = 72};
  CHECK_TRUE(has(html_section(report), ">2 evicted in the last 10 minutes: raise"));
}

// Before the first connection, and after so many that numbers grow wide.
TEST(Html, nothing_yet_and_very_much) {
  Report report = report_in(Liveness::kUp);
  report.daemon.snapshot.counters = {};
  report.module = ModuleCounters{};
  std::string text = html_section(report);
  CHECK_TRUE(has(text, "no socket has been taken over yet"));
  CHECK_TRUE(has(text, "no httpd connected"));
  CHECK_TRUE(has(text, "of which 0 linger now"));
  CHECK_FALSE(has(text, "nan"));
  CHECK_FALSE(has(text, "A hand-off takes"));
  for (auto& value : report.daemon.snapshot.counters.array()) value = 1'000'000'000'000;
  for (auto& value : report.module->array()) value = 1'000'000'000'000;
  text = html_section(report);
  CHECK_TRUE(has(text, "1,000,000,000,000"));
  CHECK_TRUE(has(text, "width=\"100\""));
  CHECK_TRUE(has(text, "linger-near"));
}

TEST_GROUP(SeriesOfRings){};

TEST(SeriesOfRings, queue_has_gaps_module_has_zeros) {
  Report report = report_in(Liveness::kUp);
  report.daemon.snapshot.ring[(kRunningSlot - 1) % kRingSamples] = {kRunningSlot - 1, 7, 100};
  report.module_ring[(kRunningSlot - 1) % kRingSamples] = {kRunningSlot - 1, 50, 5};
  CHECK_EQUAL(7.0, *queue_series(report).back());
  CHECK_FALSE(queue_series(report)[kSeriesLength - 2].has_value());
  CHECK_EQUAL(10.0, *handoff_series(report).back());
  CHECK_EQUAL(1.0, *fallback_series(report).back());
  CHECK_EQUAL(0.0, *handoff_series(report)[kSeriesLength - 2]);
}

TEST(SeriesOfRings, samples_older_than_the_ring_are_not_shown) {
  Report report = report_in(Liveness::kUp);
  const std::uint64_t old = kRunningSlot - 1 - kRingSamples;
  report.daemon.snapshot.ring[old % kRingSamples] = {old, 7, 100};
  for (const auto& value : queue_series(report)) CHECK_FALSE(value.has_value());
}

TEST(SeriesOfRings, the_running_slot_is_not_shown) {
  Report report = report_in(Liveness::kUp);
  report.daemon.snapshot.ring[kRunningSlot % kRingSamples] = {kRunningSlot, 7, 100};
  for (const auto& value : queue_series(report)) CHECK_FALSE(value.has_value());
}

TEST(SeriesOfRings, a_restart_is_a_gap_not_a_huge_rate) {
  Report report = report_in(Liveness::kUp);
  auto& ring = report.daemon.snapshot.ring;
  ring[(kRunningSlot - 3) % kRingSamples] = {kRunningSlot - 3, 0, 900};
  ring[(kRunningSlot - 2) % kRingSamples] = {kRunningSlot - 2, 0, 1'000};
  ring[(kRunningSlot - 1) % kRingSamples] = {kRunningSlot - 1, 0, 5};
  const Series rate = taken_over_series(report);
  CHECK_EQUAL(20.0, *rate[kSeriesLength - 2]);
  CHECK_FALSE(rate.back().has_value());
}

TEST(SeriesOfRings, recent_is_what_was_added_in_the_ring) {
  Report report = report_in(Liveness::kUp);
  const auto sample = [&](std::uint64_t slot, std::uint64_t evicted) {
    report.daemon.snapshot.ring[slot % kRingSamples] = {.slot = slot, .evicted = evicted};
  };
  const auto recently = [&] { return recent(report, &RingSample::evicted); };
  CHECK_EQUAL(0U, recently());
  sample(kRunningSlot - 50, 100);
  CHECK_EQUAL(0U, recently());  // nobody knows when those were
  sample(kRunningSlot - 40, 103);
  sample(kRunningSlot, 104);
  CHECK_EQUAL(4U, recently());
  sample(kRunningSlot - 20, 2);  // another lingerd, that began with none
  sample(kRunningSlot, 5);
  CHECK_EQUAL(8U, recently());
}

TEST(SeriesOfRings, recent_counts_from_zero_if_lingerd_began_in_the_ring) {
  Report report = report_in(Liveness::kUp);
  report.daemon.snapshot.started_ns = (kRunningSlot - 3) * kSlot + kSecond;
  report.daemon.snapshot.ring[(kRunningSlot - 2) % kRingSamples] = {.slot = kRunningSlot - 2,
                                                                    .evicted = 7};
  CHECK_EQUAL(7U, recent(report, &RingSample::evicted));
}

// A host that booted a moment ago: there are no slots ten minutes back.
TEST(SeriesOfRings, a_young_clock_has_no_slots) {
  Report report = report_in(Liveness::kUp);
  report.now_ns = 2 * kSlot;
  report.daemon.snapshot.ring[1] = {1, 7, 100};
  CHECK_EQUAL(7.0, *queue_series(report).back());
  CHECK_FALSE(queue_series(report).front().has_value());
}

TEST_GROUP(Chart){};

TEST(Chart, top_is_the_next_round_number) {
  const auto top = [](double value) {
    Series series;
    series[5] = value;
    const Curve curve{&series, "q", "#000"};
    return chart_top(std::span(&curve, 1));
  };
  CHECK_EQUAL(1.0, top(0));
  CHECK_EQUAL(2.0, top(1.2));
  CHECK_EQUAL(10.0, top(9));
  CHECK_EQUAL(600.0, top(539));
  CHECK_EQUAL(100'000.0, top(99'999));
}

TEST(Chart, each_stretch_is_a_path_and_each_gap_shaded) {
  Series series;
  series[0] = 1;
  for (std::size_t i = 10; i < 20; ++i) series[i] = 2;
  const Curve curve{&series, "q", "#000"};
  const std::string svg = chart_svg(std::span(&curve, 1), 2, "label");
  CHECK_EQUAL(2U, count_of(svg, "linger-q-line"));
  CHECK_EQUAL(2U, count_of(svg, "linger-gap"));
  CHECK_FALSE(has(svg, "nan"));
}

TEST(Chart, a_bar_never_leaves_its_track) {
  CHECK_TRUE(has(bar_svg(50, 80, 100, ""), "width=\"50\""));
  CHECK_TRUE(has(bar_svg(500, 800, 100, ""), "width=\"100\""));
  CHECK_TRUE(has(bar_svg(5, 8, 0, ""), "width=\"0\""));
}

TEST_GROUP(Words){};

TEST(Words, numbers) {
  CHECK_TRUE("0" == grouped(0));
  CHECK_TRUE("999" == grouped(999));
  CHECK_TRUE("1,000" == grouped(1'000));
  CHECK_TRUE("18,446,744,073,709,551,615" == grouped(UINT64_MAX));
  CHECK_TRUE("0.000001" == decimal(1, 6));
  CHECK_TRUE("1.500" == decimal(1'500, 3));
  CHECK_TRUE("640 B" == bytes_text(640));
  CHECK_TRUE("1.0 kB" == bytes_text(1'000));
  CHECK_TRUE("1.0 MB" == bytes_text(999'999));
  CHECK_TRUE("18 EB" == bytes_text(UINT64_MAX));
}

// What a page holds that something else than lingerd has written.
TEST(Words, absurd_numbers_are_still_numbers) {
  CHECK_TRUE(0 == whole_number(-1));
  CHECK_TRUE(0 == whole_number(std::numeric_limits<double>::quiet_NaN()));
  CHECK_TRUE(3 == whole_number(2.5));
  CHECK_TRUE(UINT64_MAX == whole_number(2e19));
  CHECK_TRUE("18,446,744,073,709,551,615" == rate_text(1e300));
  Report report = report_in(Liveness::kUp);
  for (std::size_t i = 0; i < kRingSamples; ++i) {
    const std::uint64_t slot = kRunningSlot - 1 - i;
    const std::uint64_t absurd = i % 2 == 0 ? UINT64_MAX : 0;
    report.daemon.snapshot.ring[slot % kRingSamples] = {slot, absurd, absurd};
  }
  report.module.reset();
  CHECK_TRUE(has(html_section(report), "18,446,744,073,709,551,615"));
}

TEST(Words, durations) {
  CHECK_TRUE("0 s" == duration_text(0));
  CHECK_TRUE("35 ms" == duration_text(35));
  CHECK_TRUE("4.2 s" == duration_text(4'200));
  CHECK_TRUE("59 s" == duration_text(59'400));
  CHECK_TRUE("1 min" == duration_text(60'000));
  CHECK_TRUE("2 min 5 s" == duration_text(125'000));
  CHECK_TRUE("3 d 4 h" == duration_text((3 * 24 + 4) * 3'600'000ULL));
  CHECK_TRUE("1,234 d" == duration_text((1'234 * 24 + 4) * 3'600'000ULL));
}

TEST(Words, shares) {
  CHECK_TRUE("0%" == percent_text(0, 10));
  CHECK_TRUE("0%" == percent_text(10, 0));
  CHECK_TRUE("<0.1%" == percent_text(1, 10'000));
  CHECK_TRUE("2.5%" == percent_text(25, 1'000));
  CHECK_TRUE("100%" == percent_text(10, 10));
  CHECK_TRUE(">99.9%" == percent_text(99'999, 100'000));
}

TEST(Words, processes_freed) {
  CHECK_TRUE("the time of 0 processes" == processes_text(0, 100));
  CHECK_TRUE("the time of 0 processes" == processes_text(5, 0));
  CHECK_TRUE("less than 0.1 of a process" == processes_text(50, 100));
  CHECK_TRUE("the time of 1 process" == processes_text(100'000, 100));
  CHECK_TRUE("the time of 12.3 processes" == processes_text(1'230'000, 100));
  CHECK_TRUE("the time of 12,345 processes" == processes_text(1'234'567'000, 100));
}

TEST_GROUP(ModuleRingShared){};

TEST(ModuleRingShared, counts_in_its_slot_and_reuses_old_ones) {
  SharedModuleRing ring;
  ring.count_handoff(kNow);
  ring.count_handoff(kNow);
  ring.count_fallback(kNow);
  ModuleRingSample sample = ring.snapshot()[kRunningSlot % kRingSamples];
  CHECK_EQUAL(kRunningSlot, sample.slot);
  CHECK_EQUAL(2U, sample.handoffs);
  CHECK_EQUAL(1U, sample.fallbacks);

  ring.count_handoff(kNow + kRingSamples * kSlot);
  sample = ring.snapshot()[kRunningSlot % kRingSamples];
  CHECK_EQUAL(kRunningSlot + kRingSamples, sample.slot);
  CHECK_EQUAL(1U, sample.handoffs);
  CHECK_EQUAL(0U, sample.fallbacks);
}

TEST(ModuleRingShared, a_late_child_does_not_undo_a_newer_slot) {
  SharedModuleRing ring;
  ring.count_handoff(kNow + kRingSamples * kSlot);
  ring.count_handoff(kNow);
  CHECK_EQUAL(1U, ring.snapshot()[kRunningSlot % kRingSamples].handoffs);
}
