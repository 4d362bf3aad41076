// SPDX-License-Identifier: Apache-2.0
#include "contract/stats_page.h"

#include <cstring>

#include "contract/record.h"

namespace lingerd {
namespace {

constexpr std::uint64_t kNanosPerSecond = 1'000'000'000;

// The page's words are read by other processes while they change: whole stores, in order.
void store(std::uint64_t& word, std::uint64_t value) {
  std::atomic_ref<std::uint64_t>(word).store(value, std::memory_order_relaxed);
}

}  // namespace

StatsWriter::StatsWriter(StatsPage& page, std::uint64_t started_ns, std::uint64_t pid)
    : page_(page) {
  // An earlier writer may have died while it wrote: make the number even again.
  store(page_.sequence, page_.sequence & ~std::uint64_t{1});
  page_.started_ns = started_ns;
  page_.pid = pid;
  page_.record_version = kRecordVersion;
  page_.size = sizeof(StatsPage);
  page_.version = kStatsVersion;
  page_.magic = kStatsMagic;
}

void StatsWriter::publish(const StatsUpdate& update) {
  const std::uint64_t sequence = page_.sequence;
  store(page_.sequence, sequence + 1);
  std::atomic_thread_fence(std::memory_order_release);
  store(page_.heartbeat_ns, update.now_ns);
  store(page_.oldest_ns, update.oldest_ns);
  for (std::size_t i = 0; i < kDaemonCounters; ++i) {
    store(page_.counters[i], update.counters->array()[i]);
  }
  sample_ring(update);
  std::atomic_ref<std::uint64_t>(page_.sequence).store(sequence + 2, std::memory_order_release);
}

void StatsWriter::sample_ring(const StatsUpdate& update) {
  const std::uint64_t slot = update.now_ns / kNanosPerSecond / kRingSeconds;
  RingSample& sample = page_.ring[slot % kRingSamples];
  const std::uint64_t queue = (*update.counters)[DaemonCounter::kQueue];
  const bool fresh = sample.slot != slot;
  store(sample.slot, slot);
  if (fresh || queue > sample.queue) store(sample.queue, queue);
  store(sample.total, (*update.counters)[DaemonCounter::kTotal]);
  store(sample.evicted, (*update.counters)[DaemonCounter::kEvicted]);
  store(sample.rejected, (*update.counters)[DaemonCounter::kRejected]);
  store(sample.fallbacks, (*update.counters)[DaemonCounter::kFallbacksReported]);
}

ReadResult read_page(std::span<const std::byte> copy, std::uint64_t sequence_after,
                     std::uint64_t now_ns, StatsSnapshot& out) {
  StatsPage page;
  if (copy.size() < offsetof(StatsPage, sequence)) return ReadResult::kNotAPage;
  std::memcpy(&page, copy.data(), copy.size() < sizeof page ? copy.size() : sizeof page);
  if (page.magic != kStatsMagic) return ReadResult::kNotAPage;
  if (page.version != kStatsVersion) return ReadResult::kOtherVersion;
  if (copy.size() < sizeof page || page.size != sizeof page) return ReadResult::kNotAPage;
  if (page.sequence % 2 != 0 || page.sequence != sequence_after) return ReadResult::kTorn;

  out.heartbeat_ns = page.heartbeat_ns;
  out.started_ns = page.started_ns;
  out.pid = page.pid;
  std::memcpy(out.counters.array().data(), page.counters.data(), sizeof(DaemonCounters));
  out.ring = page.ring;
  // Ages go on while the writer is stopped: the reader works them out for its own now.
  const auto age = [now_ns](std::uint64_t since) { return now_ns > since ? now_ns - since : 0; };
  out.counters[DaemonCounter::kOldestMillis] = page.oldest_ns ? age(page.oldest_ns) / 1'000'000 : 0;
  out.counters[DaemonCounter::kUptimeSeconds] = age(page.started_ns) / kNanosPerSecond;
  return ReadResult::kOk;
}

}  // namespace lingerd
