// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/delivery.h"

#include <cstdint>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/deadlines.h"

// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;
using enum DaemonCounter;

namespace {

constexpr Handoff kHandoff{RecordKind::kDeliver, 5'000, 30'000, 1, 0, 1'000, 60'000};

}  // namespace

TEST_GROUP(DeliveryBooks) {
  DaemonCounters counters;
  DeliveryBooks deliveries{counters};

  Delivery& begin(SocketId id, std::uint64_t left, std::uint64_t memory) {
    return deliveries.begin(id, {100 + id, 0, left, memory}, kHandoff);
  }
  void gauges_are(std::uint64_t pending, std::uint64_t memory) const {
    UNSIGNED_LONGLONGS_EQUAL(pending, counters[kOffloadPending]);
    UNSIGNED_LONGLONGS_EQUAL(memory, counters[kOffloadMemory]);
  }
};

TEST(DeliveryBooks, enter_the_counters_when_they_begin) {
  begin(7, 1'000, 4'096);
  begin(8, 500, 0);
  UNSIGNED_LONGLONGS_EQUAL(2, counters[kOffloads]);
  UNSIGNED_LONGLONGS_EQUAL(1'500, counters[kOffloadBytes]);
  gauges_are(1'500, 4'096);
  LONGS_EQUAL(2, deliveries.size());
}

TEST(DeliveryBooks, remember_the_linger_behind_them) {
  const Delivery& delivery = begin(7, 1'000, 0);
  LONGS_EQUAL(5'000, delivery.idle_ms);
  LONGS_EQUAL(30'000, delivery.cap_ms);
  LONGS_EQUAL(107, delivery.content.id);
}

TEST(DeliveryBooks, move_on) {
  Delivery& delivery = begin(7, 1'000, 4'096);
  deliveries.moved(delivery, 400);
  UNSIGNED_LONGLONGS_EQUAL(400, delivery.content.offset);
  UNSIGNED_LONGLONGS_EQUAL(600, delivery.content.left);
  gauges_are(600, 4'096);
  UNSIGNED_LONGLONGS_EQUAL(1'000, counters[kOffloadBytes]);
}

TEST(DeliveryBooks, end_in_one_counter_and_leave_nothing_in_the_gauges) {
  for (const DaemonCounter how : {kDelivered, kDeliveryAborted, kDeliveryTimedOut}) {
    deliveries.moved(begin(7, 1'000, 4'096), 10);
    deliveries.end(7, how);
    UNSIGNED_LONGLONGS_EQUAL(1, counters[how]);
    gauges_are(0, 0);
    POINTERS_EQUAL(nullptr, deliveries.find(7));
  }
  UNSIGNED_LONGLONGS_EQUAL(3, counters[kOffloads]);
}

TEST(DeliveryBooks, that_have_ended_end_no_more) {
  begin(7, 1'000, 0);
  deliveries.end(7, kDelivered);
  deliveries.end(7, kDeliveryAborted);
  UNSIGNED_LONGLONGS_EQUAL(0, counters[kDeliveryAborted]);
}

TEST(DeliveryBooks, of_an_earlier_lingerd_are_counted_once) {
  counters[kOffloads] = 1;
  counters[kOffloadBytes] = 1'000;
  deliveries.resume(
      7,
      {.content = {107, 300, 700, 4'096}, .idle_ms = 5'000, .cap_ms = 30'000, .window_left = 800});
  UNSIGNED_LONGLONGS_EQUAL(1, counters[kOffloads]);
  UNSIGNED_LONGLONGS_EQUAL(1'000, counters[kOffloadBytes]);
  gauges_are(700, 4'096);
  deliveries.set_min_rate(10);
  CHECK(deliveries.fast_enough(*deliveries.find(7)));  // 100 bytes in the window before
}

TEST(DeliveryBooks, are_fast_enough_without_a_minimum) {
  CHECK(deliveries.fast_enough(begin(7, 1'000, 0)));
}

TEST(DeliveryBooks, are_judged_by_each_window_alone) {
  deliveries.set_min_rate(100);  // 1,000 bytes in a window of 10 s
  Delivery& delivery = begin(7, 100'000, 0);
  deliveries.moved(delivery, 1'000);
  CHECK(deliveries.fast_enough(delivery));
  deliveries.moved(delivery, 999);
  CHECK(!deliveries.fast_enough(delivery));
  deliveries.moved(delivery, 5'000);
  CHECK(deliveries.fast_enough(delivery));
  CHECK(!deliveries.fast_enough(delivery));  // what was fast before doesn't help
}
