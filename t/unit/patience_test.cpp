// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/keepalive/patience.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd;

TEST_GROUP(Patience){};

TEST(Patience, grows_with_the_requests_in_a_row) {
  LONGS_EQUAL(5, worth_waiting({0, 0}, 5));
  LONGS_EQUAL(5, worth_waiting({0, 3}, 5));
  LONGS_EQUAL(20, worth_waiting({0, 4}, 5));
  LONGS_EQUAL(20, worth_waiting({0, 39}, 5));
  LONGS_EQUAL(100, worth_waiting({0, 40}, 5));
  LONGS_EQUAL(100, worth_waiting({0, 1'000'000}, 5));
}

TEST(Patience, has_a_bound_that_LingerKeepAliveAfter_may_exceed) {
  LONGS_EQUAL(100, worth_waiting({0, 4}, 50));
  LONGS_EQUAL(1000, worth_waiting({0, 40}, 1000));
  LONGS_EQUAL(0, worth_waiting({0, 40}, 0));
}

TEST(Patience, is_none_for_who_has_thought_for_long) {
  LONGS_EQUAL(0, worth_waiting({21, 40}, 5));
  LONGS_EQUAL(5, worth_waiting({20, 0}, 5));
  LONGS_EQUAL(0, worth_waiting({1, 0}, 0));
}

TEST(Patience, a_short_stay_is_half_a_burst_and_counts_once) {
  Habit habit{20, 0};
  note_stay(habit, 5);
  LONGS_EQUAL(2, habit.quick);
  LONGS_EQUAL(0, habit.last_stay_ms);
  Habit thinker{21, 0};
  note_stay(thinker, 5);
  LONGS_EQUAL(0, thinker.quick);
  LONGS_EQUAL(0, thinker.last_stay_ms);
  Habit fresh;
  note_stay(fresh, 5);
  LONGS_EQUAL(0, fresh.quick);
}
