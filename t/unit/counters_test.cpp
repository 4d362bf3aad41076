// SPDX-License-Identifier: Apache-2.0
#include "contract/counters.h"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "contract/stats_page.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;

namespace {

std::vector<CounterInfo> all_counters() {
  std::vector<CounterInfo> all(kDaemonCounterInfo.begin(), kDaemonCounterInfo.end());
  all.insert(all.end(), kModuleCounterInfo.begin(), kModuleCounterInfo.end());
  return all;
}

// The keys of mod_status's ?auto (2.4.x, ExtendedStatus On, with mod_ssl and mod_watchdog's lines).
constexpr std::string_view kStockKeys[] = {"ServerVersion",
                                           "ServerMPM",
                                           "Server Built",
                                           "CurrentTime",
                                           "RestartTime",
                                           "ParentServerConfigGeneration",
                                           "ParentServerMPMGeneration",
                                           "ServerUptimeSeconds",
                                           "ServerUptime",
                                           "Load1",
                                           "Load5",
                                           "Load15",
                                           "Total Accesses",
                                           "Total kBytes",
                                           "Total Duration",
                                           "CPUUser",
                                           "CPUSystem",
                                           "CPUChildrenUser",
                                           "CPUChildrenSystem",
                                           "CPULoad",
                                           "Uptime",
                                           "ReqPerSec",
                                           "BytesPerSec",
                                           "BytesPerReq",
                                           "DurationPerReq",
                                           "BusyWorkers",
                                           "IdleWorkers",
                                           "GracefulWorkers",
                                           "Processes",
                                           "Stopping",
                                           "ConnsTotal",
                                           "ConnsAsyncWriting",
                                           "ConnsAsyncKeepAlive",
                                           "ConnsAsyncClosing",
                                           "ConnsAsyncWaitIO",
                                           "Scoreboard",
                                           "CacheType",
                                           "CacheSharedMemory",
                                           "CacheCurrentEntries",
                                           "CacheSubcaches",
                                           "CacheIndexesPerSubcaches",
                                           "CacheIndexUsage",
                                           "CacheUsage",
                                           "CacheStoreCount",
                                           "CacheReplaceCount",
                                           "CacheExpireCount",
                                           "CacheDiscardCount",
                                           "CacheRetrieveHitCount",
                                           "CacheRetrieveMissCount",
                                           "CacheRemoveHitCount",
                                           "CacheRemoveMissCount",
                                           "TLSSessionCacheStatus"};

bool is_alphanumeric(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
  });
}

}  // namespace

TEST_GROUP(Counters){};

TEST(Counters, are_those_of_the_contract) {
  // Scripts outside rely on these names.
  const std::set<std::string_view> promised = {
      "LingerHandoffs",       "LingerAlreadyClosed", "LingerFallbacks",
      "LingerFallbacksDown",  "LingerFallbacksBusy", "LingerFallbacksDenied",
      "LingerHandoffMicros",  "LingerQueue",         "LingerQueuePeak",
      "LingerQueueLimit",     "LingerOldestMillis",  "LingerTotal",
      "LingerClosedByClient", "LingerClosedByReset", "LingerClosedIdle",
      "LingerClosedCap",      "LingerEvicted",       "LingerRejected",
      "LingerDrainedBytes",   "LingerRescued",       "LingerWorkerMillisFreed",
      "LingerUptimeSeconds"};
  std::set<std::string_view> declared;
  for (const CounterInfo& info : all_counters()) declared.insert(info.key);
  for (const std::string_view key : promised) CHECK_TEXT(declared.contains(key), key.data());
}

TEST(Counters, have_keys_of_letters_and_digits_that_begin_with_Linger) {
  for (const CounterInfo& info : all_counters()) {
    CHECK_TEXT(is_alphanumeric(info.key), info.key.data());
    CHECK_TEXT(info.key.starts_with("Linger") && info.key.size() > 6, info.key.data());
  }
}

// Zabbix's template finds a key by the end of a line's left side: a stock key must not be the end
// of ours, nor one of ours the end of another.
TEST(Counters, have_keys_that_are_no_suffix_of_each_other_or_of_a_stock_key) {
  std::vector<std::string_view> keys(std::begin(kStockKeys), std::end(kStockKeys));
  keys.push_back("LingerUp");
  for (const CounterInfo& info : all_counters()) keys.push_back(info.key);
  for (const CounterInfo& info : all_counters()) {
    for (const std::string_view key : keys) {
      if (key.data() == info.key.data()) continue;
      CHECK_TEXT(!key.ends_with(info.key) && !info.key.ends_with(key),
                 (std::string(info.key) + " and " + std::string(key)).c_str());
    }
  }
}

TEST(Counters, have_metric_names_of_their_own_in_base_units) {
  std::set<std::string_view> names;
  for (const CounterInfo& info : all_counters()) {
    CHECK_TEXT(names.insert(info.metric).second, info.metric.data());
    CHECK_TEXT(info.metric.starts_with("lingerd_") || info.metric.starts_with("mod_linger_"),
               info.metric.data());
    for (const char c : info.metric) {
      CHECK_TEXT((c >= 'a' && c <= 'z') || c == '_', info.metric.data());
    }
    CHECK_TEXT(!info.metric.ends_with("_total"), info.metric.data());
    const bool time = info.unit == CounterUnit::kMicros || info.unit == CounterUnit::kMillis ||
                      info.unit == CounterUnit::kSeconds;
    LONGS_EQUAL_TEXT(time, info.metric.ends_with("_seconds"), info.metric.data());
    LONGS_EQUAL_TEXT(info.unit == CounterUnit::kBytes, info.metric.ends_with("_bytes"),
                     info.metric.data());
  }
}

TEST(Counters, tell_people_what_they_mean) {
  std::set<std::string_view> labels;
  for (const CounterInfo& info : all_counters()) {
    CHECK_TEXT(!info.label.empty() && labels.insert(info.label).second, info.key.data());
    CHECK_TEXT(info.help.ends_with('.'), info.key.data());
    CHECK_TEXT(info.help.find('\n') == info.help.npos, info.key.data());
  }
}

TEST(Counters, fit_on_the_stats_page) {
  CHECK(kDaemonCounters <= StatsPage{}.counters.size());
  LONGS_EQUAL(49, kDaemonCounters);
}

TEST_GROUP(Invariant){};

TEST(Invariant, holds_when_the_total_is_the_queue_and_every_end) {
  using enum DaemonCounter;
  DaemonCounters counters;
  CHECK(adds_up(counters));
  counters[kTotal] = 1 + 2 + 4 + 8 + 16 + 32;
  counters[kQueue] = 1;
  counters[kClosedByClient] = 2;
  counters[kClosedByReset] = 4;
  counters[kClosedIdle] = 8;
  counters[kClosedCap] = 16;
  counters[kEvicted] = 32;
  CHECK(adds_up(counters));
}

TEST(Invariant, breaks_when_any_part_is_counted_alone) {
  using enum DaemonCounter;
  for (const DaemonCounter part :
       {kTotal, kQueue, kClosedByClient, kClosedByReset, kClosedIdle, kClosedCap, kEvicted}) {
    DaemonCounters counters;
    counters[part] = 1;
    CHECK(!adds_up(counters));
  }
}

TEST(Invariant, is_not_about_the_other_counters) {
  using enum DaemonCounter;
  DaemonCounters counters;
  for (const DaemonCounter other : {kQueuePeak, kQueueLimit, kOldestMillis, kRejected,
                                    kDrainedBytes, kRescued, kWorkerMillisFreed, kUptimeSeconds}) {
    counters[other] = 1;
  }
  CHECK(adds_up(counters));
}

// What adds up and what pages list follows from the groups: each way that a linger ends belongs to
// one, and nothing else does.
TEST(Counters, of_a_group_are_the_ways_in_which_something_ends) {
  using enum DaemonCounter;
  constexpr auto kLingers = counters_in<CounterGroup::kLingerEnds>();
  CHECK(
      (kLingers == std::array{kClosedByClient, kClosedByReset, kClosedIdle, kClosedCap, kEvicted}));
  constexpr auto kDeliveries = counters_in<CounterGroup::kDeliveryEnds>();
  CHECK((kDeliveries == std::array{kDelivered, kDeliveryAborted, kDeliveryTimedOut}));
  constexpr auto kStays = counters_in<CounterGroup::kStayEnds>();
  CHECK((kStays == std::array{kReturned, kParkExpired, kParkClosedByClient, kReturnFailed}));
  for (const CounterInfo& info : kModuleCounterInfo) CHECK(info.group == CounterGroup::kNone);
  DaemonCounters counters;
  for (const DaemonCounter each : kLingers) counters[each] = 7;
  counters[kTotal] = 36;
  CHECK_FALSE(adds_up(counters));
  counters[kQueue] = 1;
  CHECK(adds_up(counters));
}
