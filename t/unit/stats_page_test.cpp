// SPDX-License-Identifier: Apache-2.0
#include "contract/stats_page.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "contract/counters.h"
#include "t/unit/bytes.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;

namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kStarted = 1'000 * kSecond;
constexpr std::uint64_t kPid = 4711;

// What a reader in another process does: word by word, because the writer's words are atomic.
std::vector<std::byte> copy_live(StatsPage& page, std::uint64_t& sequence_after) {
  constexpr std::size_t kWords = sizeof(StatsPage) / sizeof(std::uint64_t);
  static_assert(sizeof(StatsPage) % sizeof(std::uint64_t) == 0);
  auto* words = reinterpret_cast<std::uint64_t*>(&page);
  std::vector<std::uint64_t> copy(kWords);
  // The sequence first, with acquire, and again at the end: a seqlock's reader.
  constexpr std::size_t kSequence = offsetof(StatsPage, sequence) / sizeof(std::uint64_t);
  const std::uint64_t before = std::atomic_ref(page.sequence).load(std::memory_order_acquire);
  for (std::size_t i = 0; i < kWords; ++i) {
    copy[i] = std::atomic_ref(words[i]).load(std::memory_order_acquire);
  }
  copy[kSequence] = before;
  sequence_after = std::atomic_ref(page.sequence).load(std::memory_order_acquire);
  std::vector<std::byte> bytes(sizeof(StatsPage));
  std::memcpy(bytes.data(), copy.data(), bytes.size());
  return bytes;
}

}  // namespace

TEST_GROUP(StatsPage) {
  StatsPage page;
  StatsWriter writer{page, kStarted, kPid};
  DaemonCounters counters;
  StatsSnapshot snapshot;

  void publish(std::uint64_t now_ns, std::uint64_t oldest_ns = 0) {
    writer.publish({now_ns, oldest_ns, &counters});
  }
  ReadResult read(std::uint64_t now_ns) {
    return read_page(bytes_of(page), page.sequence, now_ns, snapshot);
  }
};

TEST(StatsPage, comes_back_as_it_was_published) {
  std::uint64_t value = 100;
  for (std::uint64_t& counter : counters.array()) counter = ++value;
  publish(kStarted + 2 * kSecond);
  CHECK(read(kStarted + 3 * kSecond) == ReadResult::kOk);
  UNSIGNED_LONGLONGS_EQUAL(kStarted + 2 * kSecond, snapshot.heartbeat_ns);
  UNSIGNED_LONGLONGS_EQUAL(kStarted, snapshot.started_ns);
  UNSIGNED_LONGLONGS_EQUAL(kPid, snapshot.pid);
  value = 100;
  for (std::size_t i = 0; i < kDaemonCounters; ++i) {
    ++value;
    const auto counter = static_cast<DaemonCounter>(i);
    if (counter == DaemonCounter::kOldestMillis || counter == DaemonCounter::kUptimeSeconds) {
      continue;
    }
    UNSIGNED_LONGLONGS_EQUAL_TEXT(value, snapshot.counters[counter],
                                  kDaemonCounterInfo[i].key.data());
  }
}

// While lingerd is stopped its own idea of these stands still.
TEST(StatsPage, ages_are_the_readers) {
  publish(kStarted + kSecond, kStarted + kSecond / 2);
  CHECK(read(kStarted + 90 * kSecond) == ReadResult::kOk);
  UNSIGNED_LONGLONGS_EQUAL(89'500, snapshot.counters[DaemonCounter::kOldestMillis]);
  UNSIGNED_LONGLONGS_EQUAL(90, snapshot.counters[DaemonCounter::kUptimeSeconds]);
}

TEST(StatsPage, an_empty_queue_has_no_oldest) {
  publish(kStarted + kSecond, 0);
  CHECK(read(kStarted + 90 * kSecond) == ReadResult::kOk);
  UNSIGNED_LONGLONGS_EQUAL(0, snapshot.counters[DaemonCounter::kOldestMillis]);
}

TEST(StatsPage, a_readers_clock_may_be_behind_by_a_moment) {
  publish(kStarted + kSecond, kStarted + kSecond);
  CHECK(read(kStarted - 1) == ReadResult::kOk);
  UNSIGNED_LONGLONGS_EQUAL(0, snapshot.counters[DaemonCounter::kOldestMillis]);
  UNSIGNED_LONGLONGS_EQUAL(0, snapshot.counters[DaemonCounter::kUptimeSeconds]);
}

TEST(StatsPage, is_torn_while_it_is_written) {
  publish(kStarted);
  ++page.sequence;
  CHECK(read(kStarted) == ReadResult::kTorn);
}

TEST(StatsPage, is_torn_if_it_was_written_during_the_copy) {
  publish(kStarted);
  const auto copy = bytes_of(page);
  publish(kStarted + kSecond);
  CHECK(read_page(copy, page.sequence, kStarted, snapshot) == ReadResult::kTorn);
}

TEST(StatsPage, of_a_writer_that_died_while_it_wrote_is_whole_again_with_the_next) {
  publish(kStarted);
  ++page.sequence;
  StatsWriter next{page, kStarted + 50 * kSecond, kPid + 1};
  next.publish({kStarted + 51 * kSecond, 0, &counters});
  CHECK(read(kStarted + 52 * kSecond) == ReadResult::kOk);
  UNSIGNED_LONGLONGS_EQUAL(kPid + 1, snapshot.pid);
  UNSIGNED_LONGLONGS_EQUAL(2, snapshot.counters[DaemonCounter::kUptimeSeconds]);
}

TEST(StatsPage, cut_short_is_no_page) {
  publish(kStarted);
  const auto bytes = bytes_of(page);
  for (std::size_t length = 0; length < bytes.size(); length += 7) {
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<long>(length));
    CHECK(read_page(cut, page.sequence, kStarted, snapshot) == ReadResult::kNotAPage);
  }
}

TEST(StatsPage, another_file_is_no_page) {
  CHECK(read_page(std::vector<std::byte>(sizeof(StatsPage)), 0, kStarted, snapshot) ==
        ReadResult::kNotAPage);
  publish(kStarted);
  page.magic = ~kStatsMagic;
  CHECK(read(kStarted) == ReadResult::kNotAPage);
}

TEST(StatsPage, that_states_another_size_is_no_page) {
  publish(kStarted);
  page.size += 8;
  CHECK(read(kStarted) == ReadResult::kNotAPage);
}

TEST(StatsPage, of_another_version_is_named_so_whatever_its_length) {
  publish(kStarted);
  for (const std::uint32_t version : {0U, kStatsVersion + 1}) {
    page.version = version;
    CHECK(read(kStarted) == ReadResult::kOtherVersion);
    auto bytes = bytes_of(page);
    bytes.resize(64);
    CHECK(read_page(bytes, page.sequence, kStarted, snapshot) == ReadResult::kOtherVersion);
    bytes.resize(sizeof(StatsPage) + 512);
    CHECK(read_page(bytes, page.sequence, kStarted, snapshot) == ReadResult::kOtherVersion);
  }
}

TEST(StatsPage, may_be_longer_than_this_reader_needs) {
  publish(kStarted);
  auto bytes = bytes_of(page);
  bytes.resize(bytes.size() + 100);
  CHECK(read_page(bytes, page.sequence, kStarted, snapshot) == ReadResult::kOk);
}

TEST(StatsPage, is_whole_or_torn_but_never_mixed_while_another_thread_writes) {
  std::atomic<bool> stop{false};
  std::thread writing([&] {
    DaemonCounters mine;
    for (std::uint64_t n = 1; !stop.load(std::memory_order_relaxed); ++n) {
      for (std::uint64_t& counter : mine.array()) counter = n;
      writer.publish({kStarted + n, kStarted + n, &mine});
      // Now and then time enough for a whole read, which a sanitizer makes slow.
      if (n % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  });
  using namespace std::chrono;
  const auto deadline = steady_clock::now() + seconds(60);
  std::uint64_t whole = 0;
  std::uint64_t last = 0;
  bool consistent = true;
  while (whole < 2'000 && steady_clock::now() < deadline) {
    std::uint64_t after = 0;
    const auto copy = copy_live(page, after);
    StatsSnapshot seen;
    if (read_page(copy, after, kStarted, seen) != ReadResult::kOk) continue;
    if (seen.heartbeat_ns == 0) continue;  // not published yet
    ++whole;
    const std::uint64_t n = seen.heartbeat_ns - kStarted;
    for (std::size_t i = 0; i < kDaemonCounters; ++i) {
      const auto counter = static_cast<DaemonCounter>(i);
      if (counter == DaemonCounter::kOldestMillis || counter == DaemonCounter::kUptimeSeconds) {
        continue;
      }
      consistent = consistent && seen.counters[counter] == n;
    }
    consistent = consistent && n >= last;
    last = n;
  }
  stop = true;
  writing.join();
  CHECK(consistent);
  CHECK(whole > 0);
  CHECK(last > 0);
}

TEST_GROUP(Ring) {
  StatsPage page;
  StatsWriter writer{page, kStarted, kPid};
  DaemonCounters counters;

  void publish(std::uint64_t seconds, std::uint64_t queue, std::uint64_t total) {
    counters[DaemonCounter::kQueue] = queue;
    counters[DaemonCounter::kTotal] = total;
    writer.publish({seconds * kSecond, 0, &counters});
  }
  const RingSample& at(std::uint64_t seconds) {
    return page.ring[seconds / kRingSeconds % kRingSamples];
  }
  void check(std::uint64_t seconds, std::uint64_t queue, std::uint64_t total) {
    UNSIGNED_LONGLONGS_EQUAL(seconds / kRingSeconds, at(seconds).slot);
    UNSIGNED_LONGLONGS_EQUAL(queue, at(seconds).queue);
    UNSIGNED_LONGLONGS_EQUAL(total, at(seconds).total);
  }
};

TEST(Ring, keeps_a_slots_longest_queue_and_last_total) {
  publish(5'000, 3, 10);
  publish(5'001, 9, 20);
  publish(5'004, 1, 30);
  check(5'000, 9, 30);
}

TEST(Ring, keeps_the_totals_that_a_check_wants_lately) {
  counters[DaemonCounter::kEvicted] = 1;
  counters[DaemonCounter::kRejected] = 2;
  counters[DaemonCounter::kFallbacksReported] = 3;
  publish(5'000, 3, 10);
  UNSIGNED_LONGLONGS_EQUAL(1, at(5'000).evicted);
  UNSIGNED_LONGLONGS_EQUAL(2, at(5'000).rejected);
  UNSIGNED_LONGLONGS_EQUAL(3, at(5'000).fallbacks);
}

TEST(Ring, a_new_slot_begins_with_the_queue_of_now) {
  publish(5'000, 9, 20);
  publish(5'005, 1, 21);
  check(5'000, 9, 20);
  check(5'005, 1, 21);
}

TEST(Ring, holds_the_last_ten_minutes) {
  LONGS_EQUAL(600, kRingSamples * kRingSeconds);
  for (std::uint64_t s = 5'000; s < 5'000 + 3 * 600; s += 5) publish(s, s, 2 * s);
  for (std::uint64_t s = 5'000 + 2 * 600; s < 5'000 + 3 * 600; s += 5) check(s, s, 2 * s);
}

TEST(Ring, leaves_a_pauses_slots_with_their_old_numbers) {
  publish(5'000, 7, 1);
  publish(5'000 + 700, 8, 2);
  check(5'000, 7, 1);
  check(5'700, 8, 2);
}

TEST_GROUP(Liveness){};

TEST(Liveness, follows_the_writer_and_its_heartbeat) {
  const std::uint64_t beat = kStarted;
  CHECK(liveness(false, beat, beat) == Liveness::kDown);
  CHECK(liveness(true, beat, beat) == Liveness::kUp);
  CHECK(liveness(true, beat, beat + kStaleNs) == Liveness::kUp);
  CHECK(liveness(true, beat, beat + kStaleNs + 1) == Liveness::kBusy);
  CHECK(liveness(true, beat, beat - 1) == Liveness::kUp);
}
