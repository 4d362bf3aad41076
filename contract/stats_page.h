// SPDX-License-Identifier: Apache-2.0
// The stats page: the file <socket>.stats, mapped by its one writer (lingerd) and read by anybody,
// without a lock. A reader copies the page and asks `read_page` whether the copy is whole: the
// sequence number is odd while the writer writes (a seqlock). Pure: works on memory that somebody
// else mapped or read; stats_file.h does the system calls.
//
// The ring of the last ten minutes is taken over by the next lingerd from the file that it
// replaces: charts and `lingerctl check` see a restart as a restart, not as ten minutes of
// nothing.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "contract/counters.h"

namespace lingerd {

// Where the lingerd that listens at this path publishes its page.
[[nodiscard]] inline std::string stats_path_of(std::string socket_path) {
  return std::move(socket_path) + ".stats";
}

inline constexpr std::uint64_t kStatsMagic = 0x5354'5253'444e'474cULL;  // "LGNDSRTS" in memory
inline constexpr std::uint32_t kStatsVersion = 3;

// A sample each kRingSeconds; the ring holds the last ten minutes.
inline constexpr std::uint64_t kRingSeconds = 5;
inline constexpr std::size_t kRingSamples = 120;

// Room for counters to come: a reader of this version skips what it doesn't know.
inline constexpr std::size_t kStatsCounters = 64;

struct RingSample {
  std::uint64_t slot = 0;   // CLOCK_MONOTONIC seconds / kRingSeconds; 0: never written
  std::uint64_t queue = 0;  // longest queue seen in that time
  // As they were at its end: LingerTotal, LingerEvicted, LingerRejected, LingerFallbacksReported.
  std::uint64_t total = 0;
  std::uint64_t evicted = 0;
  std::uint64_t rejected = 0;
  std::uint64_t fallbacks = 0;
};
using Ring = std::array<RingSample, kRingSamples>;

// All times are CLOCK_MONOTONIC nanoseconds. Every word is written whole; on disk it is host order.
struct StatsPage {
  std::uint64_t magic = 0;
  std::uint32_t version = 0;
  std::uint32_t size = 0;      // sizeof(StatsPage) of the writer
  std::uint64_t sequence = 0;  // odd while being written
  std::uint64_t heartbeat_ns =
      0;  // last sign of life, at least once a second, 5 times while httpd runs
  std::uint64_t started_ns = 0;
  std::uint64_t oldest_ns = 0;  // hand-off of the oldest linger; 0: the queue is empty
  std::uint64_t pid = 0;
  std::uint64_t record_version = 0;
  std::array<std::uint64_t, kStatsCounters> counters{};  // DaemonCounters, spare words zero
  Ring ring{};
};
static_assert(kDaemonCounters <= kStatsCounters, "raise kStatsVersion when the page grows");
static_assert(sizeof(StatsPage) == 64 + kStatsCounters * 8 + kRingSamples * sizeof(RingSample));

// What lingerd writes each time.
struct StatsUpdate {
  std::uint64_t now_ns = 0;
  std::uint64_t oldest_ns = 0;
  const DaemonCounters* counters = nullptr;
};

class StatsWriter {
 public:
  // `page` must outlive the writer and be writable and zeroed, or hold an earlier page.
  StatsWriter(StatsPage& page, std::uint64_t started_ns, std::uint64_t pid);
  void publish(const StatsUpdate& update);

 private:
  void sample_ring(const StatsUpdate& update);
  StatsPage& page_;
};

// What a reader knows, whole and consistent.
struct StatsSnapshot {
  std::uint64_t heartbeat_ns = 0;
  std::uint64_t started_ns = 0;
  std::uint64_t pid = 0;
  DaemonCounters counters;  // kOldestMillis and kUptimeSeconds are worked out for `now_ns`
  Ring ring{};
};

enum class ReadResult {
  kOk,
  kTorn,          // the writer was writing: copy again
  kNotAPage,      // too short, or another file
  kOtherVersion,  // a page of another lingerd
};

// `copy` is what the reader copied, `sequence_after` the page's sequence number read after the
// copy.
[[nodiscard]] ReadResult read_page(std::span<const std::byte> copy, std::uint64_t sequence_after,
                                   std::uint64_t now_ns, StatsSnapshot& out);

// How lingerd is, as told by its page and by the holder of the page's write lock.
enum class Liveness {
  kDown,  // no page, no writer, or a page of another version
  kBusy,  // the writer is alive but has not given a sign of life for kStaleNs: stopped or stuck
  kUp,
};
inline constexpr std::uint64_t kStaleNs = 3'000'000'000;

[[nodiscard]] constexpr Liveness liveness(bool writer_alive, std::uint64_t heartbeat_ns,
                                          std::uint64_t now_ns) {
  if (!writer_alive) return Liveness::kDown;
  return now_ns > heartbeat_ns && now_ns - heartbeat_ns > kStaleNs ? Liveness::kBusy
                                                                   : Liveness::kUp;
}

// For whether to leave something with lingerd that somebody waits for, as an idle connection's
// client will: kStaleNs is for telling an operator, and would be a wait by itself.
inline constexpr std::uint64_t kLateNs = 600'000'000;

[[nodiscard]] constexpr bool is_quick(const StatsSnapshot& page, std::uint64_t now_ns) {
  return now_ns < page.heartbeat_ns + kLateNs;
}

}  // namespace lingerd
