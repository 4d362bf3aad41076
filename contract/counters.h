// SPDX-License-Identifier: Apache-2.0
// Every counter, declared once. The stats page's layout, the ?auto keys, JSON, OpenMetrics, the
// status page and the manuals derive from these two tables; the text tells an operator what a
// number means and what to do about it. Pure.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "contract/counter_list.h"

namespace lingerd {

enum class CounterType { kCounter, kGauge };
enum class CounterUnit { kCount, kBytes, kMicros, kMillis, kSeconds };
// Counters that together count something once: what has ended did so in one of these ways.
enum class CounterGroup { kNone, kLingerEnds, kDeliveryEnds, kStayEnds, kGatherEnds };

struct CounterInfo {
  std::string_view key;    // in ?auto and JSON: letters and digits only, no other key's suffix
  std::string_view label;  // for people
  CounterType type;
  CounterUnit unit;
  std::string_view metric;  // OpenMetrics family, in base units, without _total
  std::string_view help;
  CounterGroup group = CounterGroup::kNone;
};

#define LINGER_ENUMERATOR(name, ...) name,
enum class DaemonCounter : std::size_t { LINGER_DAEMON_COUNTERS(LINGER_ENUMERATOR) kCount };
enum class ModuleCounter : std::size_t { LINGER_MODULE_COUNTERS(LINGER_ENUMERATOR) kCount };
#undef LINGER_ENUMERATOR

inline constexpr std::size_t kDaemonCounters = static_cast<std::size_t>(DaemonCounter::kCount);
inline constexpr std::size_t kModuleCounters = static_cast<std::size_t>(ModuleCounter::kCount);

#define LINGER_INFO(name, key, label, type, unit, metric, ...) \
  CounterInfo{key, label, CounterType::type, CounterUnit::unit, metric, __VA_ARGS__},
inline constexpr std::array<CounterInfo, kDaemonCounters> kDaemonCounterInfo{
    {LINGER_DAEMON_COUNTERS(LINGER_INFO)}};
inline constexpr std::array<CounterInfo, kModuleCounters> kModuleCounterInfo{
    {LINGER_MODULE_COUNTERS(LINGER_INFO)}};
#undef LINGER_INFO

// A set of values, indexed by the enumerator.
template <typename Enum, std::size_t N>
class CounterValues {
 public:
  constexpr std::uint64_t& operator[](Enum c) { return values_[static_cast<std::size_t>(c)]; }
  constexpr std::uint64_t operator[](Enum c) const { return values_[static_cast<std::size_t>(c)]; }
  [[nodiscard]] constexpr const std::array<std::uint64_t, N>& array() const { return values_; }
  constexpr std::array<std::uint64_t, N>& array() { return values_; }

 private:
  std::array<std::uint64_t, N> values_{};
};
using DaemonCounters = CounterValues<DaemonCounter, kDaemonCounters>;
using ModuleCounters = CounterValues<ModuleCounter, kModuleCounters>;

// Those of a group, in the table's order.
template <CounterGroup kGroup>
[[nodiscard]] constexpr auto counters_in() {
  constexpr auto belongs = [](const CounterInfo& info) { return info.group == kGroup; };
  std::array<DaemonCounter, std::ranges::count_if(kDaemonCounterInfo, belongs)> found{};
  std::size_t next = 0;
  for (std::size_t i = 0; i < kDaemonCounters; ++i) {
    if (belongs(kDaemonCounterInfo[i])) found[next++] = static_cast<DaemonCounter>(i);
  }
  return found;
}
template <CounterGroup kGroup>
[[nodiscard]] constexpr std::uint64_t sum_of(const DaemonCounters& c) {
  std::uint64_t sum = 0;
  for (const DaemonCounter each : counters_in<kGroup>()) sum += c[each];
  return sum;
}

[[nodiscard]] constexpr std::uint64_t deliveries_under_way(const DaemonCounters& c) {
  return c[DaemonCounter::kOffloads] - sum_of<CounterGroup::kDeliveryEnds>(c);
}

// Whether one delivery more, with its two descriptors, leaves an eighth of them for lingers.
[[nodiscard]] constexpr bool has_room_for_delivery(std::uint64_t under_way, std::uint64_t limit) {
  return 2 * (under_way + 1) <= limit - (limit + 7) / 8;
}

// Whether a user that has offered so many may offer one more: a quarter of the descriptors is the
// most.
[[nodiscard]] constexpr bool has_share_for_offer(std::uint64_t offered, std::uint64_t limit) {
  return offered == 0 || 8 * (offered + 1) <= limit;
}

// The invariant of the daemon's counters: LingerTotal = LingerQueue + every way a linger ends.
[[nodiscard]] constexpr bool adds_up(const DaemonCounters& c) {
  using enum DaemonCounter;
  return c[kTotal] == c[kQueue] + sum_of<CounterGroup::kLingerEnds>(c);
}

// Likewise: LingerParkedTotal = LingerParked + every way that a stay ends.
[[nodiscard]] constexpr bool parks_add_up(const DaemonCounters& c) {
  using enum DaemonCounter;
  return c[kParkedTotal] == c[kParked] + sum_of<CounterGroup::kStayEnds>(c);
}

// Likewise: LingerGatherTotal = LingerGathering + every way that such a wait ends.
[[nodiscard]] constexpr bool gathers_add_up(const DaemonCounters& c) {
  using enum DaemonCounter;
  return c[kGatherTotal] == c[kGathering] + sum_of<CounterGroup::kGatherEnds>(c);
}

}  // namespace lingerd
