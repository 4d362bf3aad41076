// SPDX-License-Identifier: Apache-2.0
#include "contract/module_ring.h"

#include "report/series.h"

namespace lingerd {
namespace {

constexpr std::uint64_t kSlotNanos = kRingSeconds * 1'000'000'000;

// The slot of element `i`.
std::uint64_t slot_at(const Report& report, std::size_t i) {
  const std::uint64_t running = report.now_ns / kSlotNanos;
  const std::uint64_t back = kSeriesLength - i;
  return running > back ? running - back : 0;
}

// The ring's sample of that slot, or nothing: never written, or written over.
template <typename Ring>
const typename Ring::value_type* sample_of(const Ring& ring, std::uint64_t slot) {
  const auto& sample = ring[slot % kRingSamples];
  return slot != 0 && sample.slot == slot ? &sample : nullptr;
}

template <typename Value>
Series series(const Report& report, Value&& value) {
  Series out;
  for (std::size_t i = 0; i < kSeriesLength; ++i) out[i] = value(slot_at(report, i));
  return out;
}

// A slot without an event isn't written, so it is a zero, not a gap.
Series module_series(const Report& report, std::uint64_t ModuleRingSample::*count) {
  return series(report, [&](std::uint64_t slot) -> std::optional<double> {
    const ModuleRingSample* sample = sample_of(report.module_ring, slot);
    return sample ? static_cast<double>(sample->*count) / kRingSeconds : 0;
  });
}

}  // namespace

Series queue_series(const Report& report) {
  return series(report, [&](std::uint64_t slot) -> std::optional<double> {
    const RingSample* sample = sample_of(report.daemon.snapshot.ring, slot);
    if (!sample) return std::nullopt;
    return static_cast<double>(sample->queue);
  });
}

// Running totals: the rate needs the slot before. A restarted lingerd counts from zero again.
Series taken_over_series(const Report& report) {
  return series(report, [&](std::uint64_t slot) -> std::optional<double> {
    const RingSample* sample = sample_of(report.daemon.snapshot.ring, slot);
    const RingSample* before = slot ? sample_of(report.daemon.snapshot.ring, slot - 1) : nullptr;
    if (!sample || !before || sample->total < before->total) return std::nullopt;
    return static_cast<double>(sample->total - before->total) / kRingSeconds;
  });
}

Series handoff_series(const Report& report) {
  return module_series(report, &ModuleRingSample::handoffs);
}

Series fallback_series(const Report& report) {
  return module_series(report, &ModuleRingSample::fallbacks);
}

// The first sample shows what was before, unless nothing was.
std::uint64_t recent(const Report& report, std::uint64_t RingSample::*total) {
  const StatsSnapshot& daemon = report.daemon.snapshot;
  const std::uint64_t running = report.now_ns / kSlotNanos;
  const std::uint64_t begun = daemon.started_ns / kSlotNanos;
  const bool begun_lately = begun + kRingSamples > running;
  std::uint64_t sum = 0;
  const RingSample* before = nullptr;
  for (std::uint64_t back = kRingSamples; back-- > 0;) {
    const RingSample* sample = running > back ? sample_of(daemon.ring, running - back) : nullptr;
    if (!sample) continue;
    const std::uint64_t now = sample->*total;
    const bool from_zero = before ? now < before->*total : begun_lately && sample->slot >= begun;
    if (from_zero) {
      sum += now;
    } else if (before) {
      sum += now - before->*total;
    }
    before = sample;
  }
  return sum;
}

}  // namespace lingerd
