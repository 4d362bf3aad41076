// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/lingerer.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/capacity.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/deliveries.h"
#include "lingerd/core/drain.h"
#include "t/unit/fake_sockets.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;
using enum DaemonCounter;

namespace {

constexpr std::uint64_t kMs = 1'000'000;
constexpr std::uint64_t kStart = 1'000'000 * kMs;
constexpr std::uint32_t kIdle = 5'000;
constexpr std::uint32_t kCap = 30'000;
constexpr std::uint32_t kMaxTime = 60'000;
constexpr std::size_t kLimit = 5;
constexpr std::size_t kAll = 1'000;

}  // namespace

// Time is in milliseconds since kStart.
TEST_GROUP(Lingerer) {
  FakeSockets sockets;
  DaemonCounters counters;
  Capacity capacity{counters, kLimit};
  Deliveries deliveries{sockets, capacity, counters};
  Lingerer lingerer{sockets, deliveries, capacity, counters, kMaxTime};

  static std::uint64_t at(std::uint64_t ms) {
    return kStart + ms * kMs;
  }
  void arrive(SocketId id, std::uint64_t ms, std::uint32_t idle = kIdle, std::uint32_t cap = kCap) {
    sockets[id];
    lingerer.arrive(id, {RecordKind::kLinger, idle, cap, at(ms)}, at(ms), true);
  }
  void arrive_fresh(SocketId id, std::uint64_t ms) {
    sockets[id];
    lingerer.arrive(id, {RecordKind::kLinger, kIdle, kCap, at(ms)}, at(ms), false);
  }
  void readable(SocketId id, std::uint64_t ms) {
    lingerer.ready(id, sockets[id].generation, at(ms));
  }
  void expire(std::uint64_t ms) {
    lingerer.expire(at(ms), kAll);
  }
  std::uint64_t count(DaemonCounter counter) const {
    return counters[counter];
  }

  void teardown() override {
    CHECK(!sockets.wrong_use());
    CHECK(adds_up(counters));
    LONGS_EQUAL(sockets.open_count(), lingerer.size());
    lingerer.end_all(at(10'000'000));
    LONGS_EQUAL(0, lingerer.size());
    LONGS_EQUAL(0, count(kQueue));
    LONGS_EQUAL(0, sockets.open_count());
    CHECK(!lingerer.next_deadline());
    UNSIGNED_LONGLONGS_EQUAL(0, lingerer.oldest_ns());
    CHECK(adds_up(counters));
    CHECK(!sockets.wrong_use());
  }
};

TEST(Lingerer, holds_an_open_socket_until_the_client_closes) {
  arrive(7, 0);
  LONGS_EQUAL(1, lingerer.size());
  LONGS_EQUAL(1, count(kQueue));
  LONGS_EQUAL(1, count(kTotal));
  CHECK(sockets[7].watched);
  sockets.closes(7);
  readable(7, 250);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(0, count(kQueue));
  LONGS_EQUAL(1, count(kClosedByClient));
  LONGS_EQUAL(250, count(kWorkerMillisFreed));
}

TEST(Lingerer, ends_one_whose_client_has_closed_without_watching_it) {
  sockets.closes(7);
  arrive(7, 0);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kTotal));
  LONGS_EQUAL(1, count(kClosedByClient));
  LONGS_EQUAL(0, count(kQueuePeak));
}

TEST(Lingerer, takes_last_bytes_and_FIN_that_lie_there_together) {
  sockets.sends(7, 1'000);
  sockets.closes(7);
  arrive(7, 0);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1'000, count(kDrainedBytes));
  LONGS_EQUAL(1, count(kRescued));
  LONGS_EQUAL(1, count(kClosedByClient));
}

TEST(Lingerer, counts_a_reset) {
  arrive(7, 0);
  sockets.resets(7);
  readable(7, 10);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kClosedByReset));
}

TEST(Lingerer, rejects_what_is_no_connected_socket) {
  sockets[7].state = FakeSockets::State::kNotConnected;
  arrive(7, 0);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kRejected));
  LONGS_EQUAL(0, count(kTotal));
}

TEST(Lingerer, ends_one_at_once_whose_caller_was_refused_room) {
  sockets[7];
  lingerer.arrive(7, {RecordKind::kLinger, kIdle, kCap, at(0)}, at(0), true, false);
  LONGS_EQUAL(0, lingerer.size());
  LONGS_EQUAL(1, count(kEvicted));
  LONGS_EQUAL(1, count(kTotal));
}

TEST(Lingerer, counts_bytes_and_a_rescued_socket_once) {
  arrive(7, 0);
  for (std::uint64_t i = 1; i <= 3; ++i) {
    sockets.sends(7, 100);
    readable(7, i);
  }
  LONGS_EQUAL(300, count(kDrainedBytes));
  LONGS_EQUAL(1, count(kRescued));
}

TEST(Lingerer, a_number_that_comes_back_is_another_socket) {
  arrive(7, 0);
  const std::uint32_t stale = sockets[7].generation;
  sockets.sends(7, 1);
  sockets.closes(7);
  readable(7, 1);
  readable(7, 1);
  arrive(7, 2);
  const int drains = sockets[7].drains;
  CHECK(sockets[7].generation != stale);
  lingerer.ready(7, stale, at(3));
  LONGS_EQUAL(drains, sockets[7].drains);
  sockets.sends(7, 1);
  readable(7, 4);
  LONGS_EQUAL(2, count(kRescued));
}

TEST(Lingerer, ignores_an_event_for_a_number_that_it_never_had) {
  lingerer.ready(4'000'000'000U, 1, at(0));
  LONGS_EQUAL(0, lingerer.size());
}

TEST(Lingerer, ends_a_silent_client_after_its_idle_time) {
  arrive(7, 0);
  UNSIGNED_LONGLONGS_EQUAL((at(kIdle)) / kMs, *lingerer.next_deadline());
  expire(kIdle - 1);
  CHECK(sockets.is_open(7));
  expire(kIdle);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kClosedIdle));
  LONGS_EQUAL(kIdle, count(kWorkerMillisFreed));
}

TEST(Lingerer, each_byte_begins_the_idle_time_again_but_not_the_cap) {
  arrive(7, 0);
  for (std::uint64_t ms = 1'000; ms < kCap; ms += 1'000) {
    sockets.sends(7, 1);
    readable(7, ms);
    expire(ms);
    CHECK(sockets.is_open(7));
  }
  expire(kCap);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kClosedCap));
  LONGS_EQUAL(0, count(kClosedIdle));
}

TEST(Lingerer, times_are_each_sockets_own) {
  arrive(1, 0, 1'000, 30'000);
  arrive(2, 0, 9'000, 3'000);
  arrive(3, 0, 9'000, 30'000);
  expire(1'000);
  CHECK(!sockets.is_open(1));
  expire(3'000);
  CHECK(!sockets.is_open(2));
  CHECK(sockets.is_open(3));
  LONGS_EQUAL(1, count(kClosedIdle));
  LONGS_EQUAL(1, count(kClosedCap));
}

TEST(Lingerer, max_time_is_over_all) {
  arrive(7, 0, 3'600'000, 3'600'000);
  expire(kMaxTime - 1);
  CHECK(sockets.is_open(7));
  expire(kMaxTime);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kClosedCap));
}

TEST(Lingerer, the_cap_runs_from_the_hand_off) {
  sockets[7];
  lingerer.arrive(7, {RecordKind::kLinger, kIdle, 1'000, at(0)}, at(400), true);
  expire(999);
  CHECK(sockets.is_open(7));
  expire(1'000);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1'000, count(kWorkerMillisFreed));
}

TEST(Lingerer, doesnt_believe_a_hand_off_in_the_future_or_long_ago) {
  sockets[1];
  lingerer.arrive(1, {RecordKind::kLinger, kIdle, 1'000, ~std::uint64_t{0}}, at(0), true);
  sockets[2];
  lingerer.arrive(2, {RecordKind::kLinger, kIdle, kCap, 0}, at(0), true);
  expire(1'000);
  CHECK(!sockets.is_open(1));
  CHECK(count(kWorkerMillisFreed) <= kMaxTime + 1'000 + kCap);
}

TEST(Lingerer, waits_for_a_client_that_takes_its_response_slowly) {
  sockets[7].unsent = 300'000;
  arrive(7, 0, kIdle, kMaxTime);
  // A byte in each idle time is sign enough.
  std::uint64_t ms = 0;
  for (; ms < 50'000; ms += kIdle / kLooksPerPeriod) {
    if (ms % kIdle == 0) --sockets[7].unsent;
    expire(ms);
    CHECK(sockets.is_open(7));
  }
  // Then none: a period and a quarter later at most it is over.
  expire(ms);
  for (const std::uint64_t end = ms + kIdle + kIdle / 4; ms <= end; ms += 50) expire(ms);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kClosedIdle));
}

TEST(Lingerer, a_response_that_nobody_takes_is_idle_after_one_period) {
  sockets[7].unsent = 300'000;
  arrive(7, 0);
  std::uint64_t ended = 0;
  for (std::uint64_t ms = 0; ms <= 2 * kIdle && ended == 0; ms += 10) {
    expire(ms);
    if (!sockets.is_open(7)) ended = ms;
  }
  CHECK(ended >= kIdle && ended <= kIdle + kIdle / 4);
}

// What came in the last moment is taken: a close with unread bytes would reset the client.
TEST(Lingerer, drains_before_it_gives_up) {
  arrive(7, 0);
  sockets.sends(7, 42);
  expire(kCap);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(42, count(kDrainedBytes));
  LONGS_EQUAL(1, count(kRescued));
  LONGS_EQUAL(1, count(kClosedCap));
}

TEST(Lingerer, a_FIN_at_the_last_moment_is_the_clients_close) {
  arrive(7, 0);
  sockets.closes(7);
  expire(kIdle);
  LONGS_EQUAL(1, count(kClosedByClient));
  LONGS_EQUAL(0, count(kClosedIdle));
}

TEST(Lingerer, fresh_sockets_wait_for_settle) {
  arrive_fresh(7, 0);
  CHECK(lingerer.has_fresh());
  LONGS_EQUAL(1, lingerer.size());
  LONGS_EQUAL(0, sockets[7].drains);
  LONGS_EQUAL(0, count(kTotal));
  lingerer.settle(at(1));
  CHECK(!lingerer.has_fresh());
  CHECK(sockets[7].watched);
  LONGS_EQUAL(1, count(kTotal));
  LONGS_EQUAL(1, count(kQueue));
}

TEST(Lingerer, fresh_sockets_that_close_by_then_cost_no_watch) {
  arrive_fresh(7, 0);
  sockets.closes(7);
  lingerer.settle(at(1));
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kTotal));
  LONGS_EQUAL(1, count(kClosedByClient));
  LONGS_EQUAL(0, count(kQueuePeak));
}

TEST(Lingerer, a_fresh_socket_may_meet_its_cap) {
  arrive_fresh(7, 0);
  expire(kCap);
  CHECK(!sockets.is_open(7));
  lingerer.settle(at(kCap));
  LONGS_EQUAL(1, count(kTotal));
  LONGS_EQUAL(1, count(kClosedCap));
}

TEST(Lingerer, a_socket_that_the_system_wont_watch_is_ended_and_counted) {
  sockets[7].refuse_watch = true;
  arrive(7, 0);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kEvicted));
  LONGS_EQUAL(1, count(kTotal));
}

TEST(Lingerer, at_the_limit_evicts_the_one_nearest_its_deadline) {
  arrive(1, 0, 5'000);
  arrive(2, 1, 1'000);
  arrive(3, 2, 5'000, 500);
  arrive(4, 3, 5'000);
  arrive(5, 4, 5'000);
  LONGS_EQUAL(kLimit, lingerer.size());
  arrive(6, 5);
  CHECK(!sockets.is_open(3));
  arrive(7, 6);
  CHECK(!sockets.is_open(2));
  arrive(8, 7);
  CHECK(!sockets.is_open(1));
  LONGS_EQUAL(kLimit, lingerer.size());
  LONGS_EQUAL(3, count(kEvicted));
  LONGS_EQUAL(kLimit, count(kQueuePeak));
  LONGS_EQUAL(kLimit, count(kQueueLimit));
}

TEST(Lingerer, counts_fresh_ones_towards_the_limit) {
  for (SocketId id = 1; id <= 7; ++id) arrive_fresh(id, id);
  LONGS_EQUAL(kLimit, lingerer.size());
  LONGS_EQUAL(2, count(kEvicted));
  lingerer.settle(at(10));
  LONGS_EQUAL(kLimit, count(kQueue));
}

TEST(Lingerer, a_lower_limit_evicts_at_once) {
  for (SocketId id = 1; id <= 5; ++id) arrive(id, id);
  capacity.set_limit(2, at(10));
  LONGS_EQUAL(2, lingerer.size());
  CHECK(sockets.is_open(4) && sockets.is_open(5));
  LONGS_EQUAL(3, count(kEvicted));
  LONGS_EQUAL(2, count(kQueueLimit));
  capacity.set_limit(3, at(10));
  arrive(9, 11);
  LONGS_EQUAL(3, lingerer.size());
}

TEST(Lingerer, an_evicted_sockets_last_bytes_are_taken) {
  for (SocketId id = 1; id <= 5; ++id) arrive(id, id);
  sockets.sends(1, 10);
  arrive(6, 6);
  LONGS_EQUAL(10, count(kDrainedBytes));
}

TEST(Lingerer, end_all_ends_all_as_if_their_time_had_come) {
  arrive(1, 0);
  arrive(2, 0);
  arrive_fresh(3, 0);
  sockets.closes(2);
  lingerer.end_all(at(100));
  LONGS_EQUAL(0, lingerer.size());
  CHECK(!lingerer.has_fresh());
  LONGS_EQUAL(2, count(kClosedCap));
  LONGS_EQUAL(1, count(kClosedByClient));
}

TEST(Lingerer, works_off_deadlines_within_its_budget) {
  for (SocketId id = 1; id <= 5; ++id) arrive(id, 0);
  lingerer.expire(at(kIdle), 2);
  LONGS_EQUAL(3, lingerer.size());
  lingerer.expire(at(kIdle), 2);
  LONGS_EQUAL(1, lingerer.size());
  CHECK(*lingerer.next_deadline() <= (at(kIdle)) / kMs);
  for (SocketId id = 6; id <= 9; ++id) arrive(id, kIdle, kIdle, 100);
  lingerer.expire(at(kIdle + 100), 3);
  LONGS_EQUAL(2, lingerer.size());
}

TEST(Lingerer, knows_the_oldest) {
  UNSIGNED_LONGLONGS_EQUAL(0, lingerer.oldest_ns());
  arrive(1, 10);
  arrive(2, 20, kIdle, 1'000);
  arrive(3, 30);
  UNSIGNED_LONGLONGS_EQUAL(at(10), lingerer.oldest_ns());
  sockets.closes(1);
  readable(1, 40);
  UNSIGNED_LONGLONGS_EQUAL(at(20), lingerer.oldest_ns());
}

// Whatever comes in whatever order: the sums hold, each socket is closed once, none outlives its
// limits.
TEST(Lingerer, keeps_its_books_through_anything) {
  std::mt19937 random(4711);
  std::map<SocketId, std::uint64_t> deadline_of;
  std::uint64_t now = 0;
  std::uint64_t arrived = 0;
  std::uint32_t idle = 0;
  for (int step = 0; step < 50'000; ++step) {
    now += random() % 40;
    const SocketId id = 10 + random() % 12;
    switch (random() % 8) {
      case 0:
      case 1:
      case 2:
        if (sockets.is_open(id)) break;
        if (random() % 4 == 0) sockets.sends(id, random() % 100);
        if (random() % 4 == 0) sockets.closes(id);
        sockets[id].unsent = random() % 3 == 0 ? random() % 5'000 : 0;
        ++arrived;
        idle = static_cast<std::uint32_t>(200 + 100 * (random() % 3));
        deadline_of[id] = now + 900;
        lingerer.arrive(id, {RecordKind::kLinger, idle, 900, at(now)}, at(now), random() % 2 == 0);
        break;
      case 3:
        if (sockets.is_open(id)) sockets.sends(id, 1 + random() % 100);
        break;
      case 4:
        if (!sockets.is_open(id)) break;
        if (random() % 2 == 0) {
          sockets.closes(id);
        } else {
          sockets.resets(id);
        }
        break;
      case 5:
        lingerer.ready(id, sockets.is_open(id) ? sockets[id].generation : random() % 5, at(now));
        break;
      case 6: lingerer.settle(at(now)); break;
      case 7:
        if (sockets.is_open(id) && sockets[id].unsent > 0) --sockets[id].unsent;
        break;
    }
    expire(now);
    CHECK(adds_up(counters));
    CHECK(lingerer.size() <= kLimit);
    LONGS_EQUAL(sockets.open_count(), lingerer.size());
    // A late start waits with the one before it, at most a step's distance.
    for (const auto& [each, deadline] : deadline_of) {
      CHECK(!sockets.is_open(each) || now <= deadline + 40);
    }
    CHECK(!sockets.wrong_use());
  }
  lingerer.settle(at(now));
  UNSIGNED_LONGLONGS_EQUAL(arrived, count(kTotal));
  LONGS_EQUAL(arrived - lingerer.size(), sockets.closed().size());
  for (const DaemonCounter end : {kClosedByClient, kClosedByReset, kClosedIdle, kEvicted}) {
    CHECK(count(end) > 0);
  }
}
