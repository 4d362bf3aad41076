// SPDX-License-Identifier: Apache-2.0
// What the lingerer does with a socket that comes with the rest of a response.
#include "lingerd/core/lingerer.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/capacity.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/deliveries.h"
#include "lingerd/core/delivery.h"
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
constexpr std::uint32_t kStall = 8'000;
constexpr std::uint32_t kMaxTime = 60'000;
constexpr std::size_t kLimit = 6;
constexpr std::size_t kAll = 1'000;
constexpr std::uint64_t kMemory = 1 << 20;

}  // namespace

// Time is in milliseconds since kStart.
TEST_GROUP(LingererDelivery) {
  FakeSockets sockets;
  DaemonCounters counters;
  std::optional<Capacity> capacity{std::in_place, counters, kLimit};
  std::optional<Deliveries> deliveries{std::in_place, sockets, *capacity, counters};
  std::optional<Lingerer> lingerer{std::in_place, sockets,  *deliveries,
                                   *capacity,     counters, kMaxTime};

  static std::uint64_t at(std::uint64_t ms) {
    return kStart + ms * kMs;
  }
  void arrive_with(SocketId id, std::uint64_t length, std::uint64_t ms) {
    sockets[id];
    sockets.open_content(100 + id);
    const Handoff handoff{RecordKind::kDeliver, kIdle, kCap, at(ms), 0, length, kStall};
    lingerer->arrive_with(id, {100 + id, 0, length, kMemory}, handoff, at(ms));
  }
  void arrive(SocketId id, std::uint64_t ms) {
    sockets[id];
    lingerer->arrive(id, {RecordKind::kLinger, kIdle, kCap, at(ms)}, at(ms), true);
  }
  void ready(SocketId id, std::uint64_t ms) {
    lingerer->ready(id, sockets[id].generation, at(ms));
  }
  void takes(SocketId id, std::uint64_t bytes, std::uint64_t ms) {
    sockets[id].takes = bytes;
    ready(id, ms);
  }
  // Everything goes to another lingerd, but for what `lose` takes away.
  template <typename Lose>
  void hand_over(std::uint64_t ms, Lose lose) {
    std::vector<Lingerer::Carried> state = lingerer->carry_out();
    for (const Lingerer::Carried& one : state) sockets[one.id].watched = false;
    lose(state);
    capacity.emplace(counters, kLimit);
    deliveries.emplace(sockets, *capacity, counters);
    lingerer.emplace(sockets, *deliveries, *capacity, counters, kMaxTime);
    lingerer->carry_in(std::move(state), at(ms));
  }
  void hand_over(std::uint64_t ms) {
    hand_over(ms, [](auto&) {});
  }
  void expire(std::uint64_t ms) {
    lingerer->expire(at(ms), kAll);
  }
  std::uint64_t count(DaemonCounter counter) const {
    return counters[counter];
  }
  std::uint64_t under_way() const {
    return count(kOffloads) - count(kDelivered) - count(kDeliveryAborted) -
           count(kDeliveryTimedOut);
  }

  void teardown() override {
    CHECK(!sockets.wrong_use());
    CHECK(adds_up(counters));
    LONGS_EQUAL(sockets.open_count(), lingerer->size());
    UNSIGNED_LONGLONGS_EQUAL(sockets.contents(), under_way());
    lingerer->end_all(at(10'000'000));
    LONGS_EQUAL(0, lingerer->size());
    UNSIGNED_LONGLONGS_EQUAL(0, under_way());
    LONGS_EQUAL(0, count(kOffloadPending));
    LONGS_EQUAL(0, count(kOffloadMemory));
    LONGS_EQUAL(0, sockets.contents());
    CHECK(!lingerer->next_deadline());
    CHECK(adds_up(counters));
    CHECK(!sockets.wrong_use());
  }
};

// The kernel says that it takes data, and has no memory for them.
TEST(LingererDelivery, rests_when_a_writable_socket_takes_nothing) {
  arrive_with(5, 1000, 0);
  CHECK(sockets[5].writable_watched);  // a full socket is the usual case
  takes(5, 0, 10);
  CHECK(!sockets[5].writable_watched);
  lingerer->expire(at(109), kAll);
  CHECK(!sockets[5].writable_watched);
  LONGS_EQUAL((kStart + 110 * kMs) / kMs, *lingerer->next_deadline());
  lingerer->expire(at(110), kAll);
  CHECK(sockets[5].writable_watched);
  takes(5, 400, 111);
  CHECK(sockets[5].writable_watched);
  LONGS_EQUAL(400, sockets[5].taken);
  CHECK(!sockets.wrong_use());
}

TEST(LingererDelivery, ends_while_it_rests) {
  arrive_with(5, 1000, 0);
  takes(5, 0, 10);
  lingerer->expire(at(kStall), kAll);
  CHECK(!sockets.is_open(5));
  CHECK(!lingerer->next_deadline());
  CHECK(!sockets.wrong_use());
}

TEST(LingererDelivery, sends_the_rest_then_FIN_then_lingers) {
  arrive_with(7, 1'000, 0);
  LONGS_EQUAL(1, count(kQueue));
  CHECK(sockets[7].writable_watched);
  takes(7, 600, 100);
  LONGS_EQUAL(400, count(kOffloadPending));
  LONGS_EQUAL(0, sockets[7].fins);
  takes(7, 600, 200);
  LONGS_EQUAL(1'000, sockets[7].taken);
  LONGS_EQUAL(1, sockets[7].fins);
  CHECK(!sockets[7].writable_watched);
  LONGS_EQUAL(1, count(kDelivered));
  LONGS_EQUAL(0, count(kOffloadMemory));
  LONGS_EQUAL(0, sockets.contents());
  LONGS_EQUAL(1, count(kQueue));
  sockets.closes(7);
  ready(7, 300);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kClosedByClient));
  LONGS_EQUAL(300, count(kWorkerMillisFreed));
}

TEST(LingererDelivery, is_over_at_once_where_the_socket_takes_everything) {
  sockets[7].takes = 1'000;
  sockets.closes(7);
  arrive_with(7, 1'000, 0);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kDelivered));
  LONGS_EQUAL(1, count(kClosedByClient));
}

TEST(LingererDelivery, doesnt_look_at_what_the_client_sends_meanwhile) {
  arrive_with(7, 1'000, 0);
  sockets.closes(7);  // half-closed: it still wants its response
  takes(7, 500, 10);
  LONGS_EQUAL(0, sockets[7].drains);
  CHECK(sockets.is_open(7));
}

TEST(LingererDelivery, ends_when_nothing_moves_for_its_own_time) {
  arrive_with(7, 1'000, 0);
  expire(kIdle + 1'000);  // the linger's time is another
  CHECK(sockets.is_open(7));
  expire(kStall);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kDeliveryTimedOut));
  LONGS_EQUAL(1, count(kClosedIdle));
  LONGS_EQUAL(0, count(kOffloadPending));
}

TEST(LingererDelivery, goes_on_for_as_long_as_something_moves) {
  arrive_with(7, 1'000, 0);
  for (std::uint64_t ms = 7'000; ms <= 140'000; ms += 7'000) {  // far beyond any cap
    takes(7, 1, ms);
    expire(ms);
    CHECK(sockets.is_open(7));
  }
  expire(140'000 + kStall);
  CHECK(!sockets.is_open(7));
}

TEST(LingererDelivery, has_moved_when_the_client_acknowledges_what_the_kernel_holds) {
  sockets[7].unsent = 200'000;
  arrive_with(7, 1'000'000, 0);
  for (std::uint64_t ms = 2'000; ms <= 60'000; ms += 2'000) {
    sockets[7].unsent -= 1'000;  // not enough to make the socket writable
    expire(ms);
    CHECK(sockets.is_open(7));
  }
}

TEST(LingererDelivery, ends_when_it_is_slower_than_the_minimum) {
  deliveries->set_limits(kMemory, 100);
  arrive_with(7, 100'000, 0);
  arrive_with(8, 100'000, 0);
  for (std::uint64_t ms = 1'000; ms < kRateWindowMs; ms += 1'000) {
    takes(7, 50, ms);
    takes(8, 150, ms);
  }
  expire(kRateWindowMs);
  CHECK(!sockets.is_open(7));
  CHECK(sockets.is_open(8));
  LONGS_EQUAL(1, count(kDeliveryTimedOut));
}

TEST(LingererDelivery, ends_with_the_connection) {
  arrive_with(7, 1'000, 0);
  sockets[7].refuses_with = PushResult::State::kReset;
  ready(7, 10);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kDeliveryAborted));
  LONGS_EQUAL(1, count(kClosedByReset));
}

TEST(LingererDelivery, ends_without_FIN_when_the_content_is_cut_short) {
  arrive_with(7, 1'000, 0);
  takes(7, 100, 5);
  sockets[7].refuses_with = PushResult::State::kCutShort;
  ready(7, 10);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kDeliveryAborted));
}

TEST(LingererDelivery, that_cant_be_watched_is_counted_and_closed) {
  sockets[7].refuse_watch = true;
  arrive_with(7, 1'000, 0);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kDeliveryAborted));
  LONGS_EQUAL(1, count(kEvicted));
}

TEST(LingererDelivery, ignores_events_of_an_earlier_one) {
  arrive_with(7, 1'000, 0);
  const std::uint32_t stale = sockets[7].generation;
  sockets[7].refuses_with = PushResult::State::kReset;
  ready(7, 10);
  arrive_with(7, 1'000, 20);
  sockets[7].takes = 1'000;
  lingerer->ready(7, stale, at(30));
  LONGS_EQUAL(0, sockets[7].taken);
}

TEST(LingererDelivery, takes_two_descriptors_and_is_evicted_last) {
  arrive_with(7, 1'000, 0);
  arrive(8, 5'000);
  arrive(9, 5'000);
  arrive_with(10, 1'000, 5'000);  // 2 + 1 + 1 + 2 is the limit
  CHECK(sockets.is_open(7) && sockets.is_open(8) && sockets.is_open(9));
  arrive_with(11, 1'000, 5'001);
  CHECK(sockets.is_open(7) && sockets.is_open(10));
  CHECK(!sockets.is_open(8) && !sockets.is_open(9));
  LONGS_EQUAL(2, count(kEvicted));
  LONGS_EQUAL(0, count(kDeliveryAborted));
  arrive(12, 5'002);  // only deliveries are left: each would be a response lost
  CHECK(sockets.is_open(7) && sockets.is_open(10) && sockets.is_open(11));
  CHECK(!sockets.is_open(12));
  LONGS_EQUAL(3, count(kEvicted));
  capacity->set_limit(4, at(5'003));  // the one that has stood still for longest
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kDeliveryAborted));
}

TEST(LingererDelivery, is_not_the_oldest_linger) {
  arrive_with(7, 1'000, 0);
  UNSIGNED_LONGLONGS_EQUAL(0, lingerer->oldest_ns());
  takes(7, 1'000, 50'000);
  UNSIGNED_LONGLONGS_EQUAL(at(50'000), lingerer->oldest_ns());
}

TEST(LingererDelivery, goes_on_in_the_next_lingerd) {
  arrive_with(7, 1'000, 0);
  takes(7, 400, 1'000);
  hand_over(1'500);
  CHECK(sockets[7].writable_watched);
  UNSIGNED_LONGLONGS_EQUAL(600, count(kOffloadPending));
  UNSIGNED_LONGLONGS_EQUAL(kMemory, count(kOffloadMemory));
  UNSIGNED_LONGLONGS_EQUAL(1, count(kOffloads));
  expire(8'999);
  CHECK(sockets.is_open(7));  // 8 s from when it last moved
  takes(7, 1'000, 8'999);
  LONGS_EQUAL(1'000, sockets[7].taken);
  LONGS_EQUAL(1, sockets[7].fins);
  LONGS_EQUAL(1, count(kDelivered));
  expire(8'999 + kIdle);
  LONGS_EQUAL(1, count(kClosedIdle));
}

TEST(LingererDelivery, whose_stall_had_begun_doesnt_begin_again) {
  arrive_with(7, 1'000, 0);
  hand_over(7'000);
  expire(kStall - 1);
  CHECK(sockets.is_open(7));
  expire(kStall);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kDeliveryTimedOut));
}

// A FIN that isn't sent yet isn't what is unsent.
TEST(LingererDelivery, whose_client_takes_the_kernels_last_byte_has_all_its_time_again) {
  sockets[7].unsent = 1;
  arrive_with(7, 1'000, 0);
  for (std::uint64_t ms = 0; ms < kStall; ms += 500) expire(ms);
  hand_over(kStall - 10);
  sockets[7].unsent = 0;
  for (std::uint64_t ms = kStall; ms < 2 * kStall - 10; ms += 500) expire(ms);
  CHECK(sockets.is_open(7));
  expire(2 * kStall + 500);
  CHECK(!sockets.is_open(7));
  LONGS_EQUAL(1, count(kDeliveryTimedOut));
}

TEST(LingererDelivery, whose_content_got_lost_ends_and_is_counted) {
  arrive_with(7, 1'000, 0);
  arrive_with(8, 1'000, 0);
  hand_over(10, [&](std::vector<Lingerer::Carried>& state) {
    state.erase(state.begin());  // the socket of one,
    sockets.close(7, false);
    state[0].state.delivery.content.left = 0;  // the content of the other
    sockets.close_content(107);
    sockets.close_content(108);
  });
  CHECK(!sockets.is_open(8));
  LONGS_EQUAL(2, count(kDeliveryAborted));
  LONGS_EQUAL(0, count(kOffloadPending));
}
