// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/deadlines.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include "contract/record.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;

TEST_GROUP(Deadlines) {
  DeadlineQueue queue{100};

  void check_next(SocketId id, MonoMillis deadline) {
    const auto due = queue.next();
    CHECK(due.has_value());
    LONGS_EQUAL(id, due->id);
    UNSIGNED_LONGLONGS_EQUAL(deadline, due->deadline);
  }
  // Takes all, in the order in which they are due.
  std::vector<SocketId> drain() {
    std::vector<SocketId> order;
    while (const auto due = queue.next()) {
      order.push_back(due->id);
      queue.disarm(due->id);
    }
    return order;
  }
};

TEST(Deadlines, of_nothing_are_none) {
  CHECK(!queue.next());
  queue.disarm(5);
  queue.disarm(1'000'000);
  CHECK(!queue.next());
}

TEST(Deadlines, are_start_and_duration) {
  queue.arm(3, 1'000, 500);
  check_next(3, 1'500);
  CHECK(!(queue.disarm(3), queue.next()));
}

TEST(Deadlines, come_in_order_across_durations) {
  queue.arm(1, 1'000, 30'000);
  queue.arm(2, 1'001, 5'000);
  queue.arm(3, 1'002, 2'000);
  queue.arm(4, 1'003, 5'000);
  CHECK((drain() == std::vector<SocketId>{3, 2, 4, 1}));
}

TEST(Deadlines, rearmed_move_to_the_tail) {
  queue.arm(1, 1'000, 100);
  queue.arm(2, 1'000, 100);
  queue.arm(3, 1'000, 100);
  queue.arm(1, 1'050, 100);
  check_next(2, 1'100);
  CHECK((drain() == std::vector<SocketId>{2, 3, 1}));
}

TEST(Deadlines, rearmed_may_change_their_duration) {
  queue.arm(1, 1'000, 100);
  queue.arm(2, 1'000, 200);
  queue.arm(1, 1'000, 300);
  check_next(2, 1'200);
  CHECK((drain() == std::vector<SocketId>{2, 1}));
}

TEST(Deadlines, disarmed_in_the_middle_leave_the_others) {
  for (SocketId id = 0; id < 5; ++id) queue.arm(id, 1'000, 100);
  queue.disarm(2);
  queue.disarm(2);
  queue.disarm(4);
  queue.disarm(0);
  queue.arm(5, 1'000, 100);
  CHECK((drain() == std::vector<SocketId>{1, 3, 5}));
}

// Two processes' hand-offs don't come in the order of their times.
TEST(Deadlines, of_a_late_start_wait_with_the_one_before) {
  queue.arm(1, 1'010, 100);
  queue.arm(2, 1'000, 100);
  check_next(1, 1'110);
  queue.disarm(1);
  check_next(2, 1'110);
}

TEST(Deadlines, an_armed_number_may_be_far_beyond_the_reserved) {
  queue.arm(100'000, 1'000, 100);
  check_next(100'000, 1'100);
}

// More durations than lists: rounded up, so that nobody's socket ends because of another's
// durations.
TEST(Deadlines, of_more_durations_than_lists_are_never_early_and_at_most_twice_as_late) {
  constexpr std::size_t kMany = 3 * DeadlineQueue::kMaxDurations;
  for (SocketId id = 0; id < kMany; ++id) queue.arm(id, 1'000, 1'000 + 37 * id);
  MonoMillis last = 0;
  std::size_t count = 0;
  while (const auto due = queue.next()) {
    const MonoMillis asked = 1'000 + 37 * due->id;
    CHECK(due->deadline >= last);
    CHECK(due->deadline >= 1'000 + asked);
    CHECK(due->deadline <= 1'000 + 2 * asked);
    if (due->id < DeadlineQueue::kMaxDurations) {
      UNSIGNED_LONGLONGS_EQUAL(1'000 + asked, due->deadline);
    }
    last = due->deadline;
    queue.disarm(due->id);
    ++count;
  }
  LONGS_EQUAL(kMany, count);
}

TEST(Deadlines, of_any_duration_fit_a_rounded_list) {
  for (std::size_t i = 0; i < DeadlineQueue::kMaxDurations; ++i) {
    queue.arm(static_cast<SocketId>(i), 0, static_cast<std::uint32_t>(1'000'001 + i));
  }
  for (const std::uint32_t duration :
       {1U, 2U, 3U, 4U, 5U, 65'536U, 65'537U, kMaxDurationMs - 1, kMaxDurationMs}) {
    queue.arm(99, 0, duration);
    const auto armed = queue.armed(99);
    CHECK(armed->deadline >= duration && armed->deadline <= 2 * std::uint64_t{duration});
    CHECK(armed->deadline <= kMaxDurationMs);
    UNSIGNED_LONGLONGS_EQUAL(armed->deadline, armed->duration_ms);
  }
}

TEST(Deadlines, armed_says_when_and_in_which_list) {
  CHECK(!queue.armed(7));
  queue.arm(7, 1'000, 500);
  UNSIGNED_LONGLONGS_EQUAL(1'500, queue.armed(7)->deadline);
  LONGS_EQUAL(500, queue.armed(7)->duration_ms);
  queue.disarm(7);
  CHECK(!queue.armed(7));
}

TEST(Deadlines, an_empty_lists_duration_gives_way_to_a_new_one) {
  for (std::size_t i = 0; i < DeadlineQueue::kMaxDurations; ++i) {
    queue.arm(static_cast<SocketId>(i), 0, static_cast<std::uint32_t>(1'000 * (i + 1)));
  }
  queue.disarm(7);
  queue.arm(99, 0, 3);
  check_next(99, 3);
}

TEST(Deadlines, heads_are_the_longest_armed_of_each_duration) {
  queue.arm(1, 1'000, 100);
  queue.arm(2, 1'000, 100);
  queue.arm(3, 1'000, 200);
  std::vector<SocketId> heads;
  queue.for_each_head([&](SocketId id) { heads.push_back(id); });
  CHECK((heads == std::vector<SocketId>{1, 3}));
}

TEST(Deadlines, each_owner_has_lists_of_its_own) {
  queue.arm(1, 1'000, 100, 0);
  queue.arm(2, 1'000, 50, 3);
  check_next(2, 1'050);
  LONGS_EQUAL(1, queue.next_of(0)->id);
  LONGS_EQUAL(2, queue.next_of(3)->id);
  CHECK(!queue.next_of(1) && !queue.next_of(200));
  // One owner's inventions don't round another's durations.
  for (SocketId id = 10; id < 100; ++id) queue.arm(id, 1'000, 10'000 + id, 3);
  queue.arm(4, 1'000, 20'001, 0);
  LONGS_EQUAL(21'001, queue.armed(4)->deadline);
  queue.arm(2, 1'000, 70, 0);  // it is another's now
  LONGS_EQUAL(2, queue.next_of(0)->id);
  queue.disarm(2);
  LONGS_EQUAL(1, queue.next_of(0)->id);
}

TEST(Deadlines, agree_with_a_sorted_map_whatever_happens) {
  std::mt19937 random(4711);
  std::map<SocketId, MonoMillis> model;
  MonoMillis now = 10'000;
  const std::uint32_t durations[] = {1, 50, 2'000, 30'000};
  for (int step = 0; step < 20'000; ++step) {
    now += random() % 3;
    const SocketId id = random() % 200;
    if (random() % 3 == 0) {
      queue.disarm(id);
      model.erase(id);
    } else {
      const std::uint32_t duration = durations[random() % 4];
      queue.arm(id, now, duration);
      model[id] = now + duration;
    }
    MonoMillis earliest = ~MonoMillis{0};
    for (const auto& [each, deadline] : model) earliest = std::min(earliest, deadline);
    const auto due = queue.next();
    LONGS_EQUAL(model.empty(), !due.has_value());
    if (!due) continue;
    UNSIGNED_LONGLONGS_EQUAL(earliest, due->deadline);
    UNSIGNED_LONGLONGS_EQUAL(model[due->id], due->deadline);
  }
}
