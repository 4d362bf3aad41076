// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/drain.h"

#include <cstdint>

#include "base/log_limiter.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;

TEST_GROUP(Patience){};

TEST(Patience, of_a_silent_client_is_one_idle_period) {
  Patience patience{.idle_ms = 5'000};
  LONGS_EQUAL(5'000, patience.wait_ms());
  CHECK(judge_silence(patience, 0) == IdleVerdict::kGiveUp);
}

// Our own FIN counts as unsent until the client's kernel has acknowledged it.
TEST(Patience, an_unacknowledged_FIN_is_no_response) {
  Patience patience{.idle_ms = 5'000, .unsent = 1};
  LONGS_EQUAL(5'000, patience.wait_ms());
  CHECK(judge_silence(patience, 1) == IdleVerdict::kGiveUp);
}

TEST(Patience, looks_four_times_a_period_while_a_response_is_waiting) {
  LONGS_EQUAL(1'250, (Patience{.idle_ms = 5'000, .unsent = 2}.wait_ms()));
  LONGS_EQUAL(1, (Patience{.idle_ms = 3, .unsent = 2}.wait_ms()));
}

TEST(Patience, lasts_as_long_as_the_client_takes_data) {
  Patience patience{.idle_ms = 4'000, .unsent = 300'000};
  for (std::uint64_t unsent = 299'999; unsent > 1; unsent -= unsent > 7'000 ? 7'000 : unsent - 1) {
    CHECK(judge_silence(patience, unsent) == IdleVerdict::kWait);
  }
}

TEST(Patience, ends_after_a_whole_period_in_which_nothing_moved) {
  Patience patience{.idle_ms = 4'000, .unsent = 300'000};
  CHECK(judge_silence(patience, 300'000) == IdleVerdict::kWait);
  CHECK(judge_silence(patience, 300'000) == IdleVerdict::kWait);
  CHECK(judge_silence(patience, 300'000) == IdleVerdict::kWait);
  CHECK(judge_silence(patience, 300'000) == IdleVerdict::kGiveUp);
}

TEST(Patience, begins_again_when_something_moved) {
  Patience patience{.idle_ms = 4'000, .unsent = 300'000};
  for (int i = 0; i < 3; ++i) CHECK(judge_silence(patience, 300'000) == IdleVerdict::kWait);
  CHECK(judge_silence(patience, 299'999) == IdleVerdict::kWait);
  for (int i = 0; i < 3; ++i) CHECK(judge_silence(patience, 299'999) == IdleVerdict::kWait);
  CHECK(judge_silence(patience, 299'999) == IdleVerdict::kGiveUp);
}

TEST(Patience, begins_again_when_the_client_sent_something) {
  Patience patience{.idle_ms = 4'000, .unsent = 300'000};
  for (int i = 0; i < 3; ++i) CHECK(judge_silence(patience, 300'000) == IdleVerdict::kWait);
  note_bytes(patience);
  for (int i = 0; i < 3; ++i) CHECK(judge_silence(patience, 300'000) == IdleVerdict::kWait);
  CHECK(judge_silence(patience, 300'000) == IdleVerdict::kGiveUp);
}

TEST(Patience, a_client_that_took_the_rest_has_one_more_period_to_close) {
  Patience patience{.idle_ms = 4'000, .unsent = 300'000};
  CHECK(judge_silence(patience, 1) == IdleVerdict::kWait);
  LONGS_EQUAL(4'000, patience.wait_ms());
  CHECK(judge_silence(patience, 0) == IdleVerdict::kGiveUp);
}

TEST(Patience, more_unsent_than_before_is_not_taking) {
  Patience patience{.idle_ms = 4'000, .unsent = 1'000};
  for (int i = 0; i < 3; ++i) {
    CHECK(judge_silence(patience, 1'000 + static_cast<std::uint64_t>(i)) == IdleVerdict::kWait);
  }
  CHECK(judge_silence(patience, 5'000) == IdleVerdict::kGiveUp);
}

TEST(Patience, more_unsent_than_fits_is_as_much_as_fits) {
  Patience patience{.idle_ms = 4'000, .unsent = 0xffffffff};
  CHECK(judge_silence(patience, std::uint64_t{1} << 40) == IdleVerdict::kWait);
  LONGS_EQUAL(1, patience.quiet_looks);
}

TEST_GROUP(LogLimiter){};

TEST(LogLimiter, lets_one_line_through_each_period_and_counts_the_rest) {
  LogLimiter limiter;
  CHECK(limiter.allow(0) == 0U);
  CHECK(!limiter.allow(0));
  CHECK(!limiter.allow(LogLimiter::kPeriodMs - 1));
  CHECK(limiter.allow(LogLimiter::kPeriodMs) == 2U);
  CHECK(!limiter.allow(LogLimiter::kPeriodMs));
  CHECK(limiter.allow(5 * LogLimiter::kPeriodMs) == 1U);
  CHECK(limiter.allow(9 * LogLimiter::kPeriodMs) == 0U);
}
