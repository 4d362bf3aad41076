// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/obstacle.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd;

TEST_GROUP(Obstacle){};

TEST(Obstacle, nobody_there_is_down) {
  for (const int error : {ENOENT, ECONNREFUSED, EPIPE, ECONNRESET, ENOTCONN, ENOTDIR, EPROTOTYPE}) {
    CHECK(obstacle_of(error) == Obstacle::kDown);
  }
}

TEST(Obstacle, a_full_queue_or_no_resources_is_busy) {
  for (const int error : {EAGAIN, ETOOMANYREFS, ENOBUFS, ENOMEM, EMFILE, ENFILE, EINTR}) {
    CHECK(obstacle_of(error) == Obstacle::kBusy);
  }
}

TEST(Obstacle, permissions_are_denied) {
  CHECK(obstacle_of(EACCES) == Obstacle::kDenied);
  CHECK(obstacle_of(EPERM) == Obstacle::kDenied);
}

TEST_GROUP(Backoff){};

TEST(Backoff, lets_the_first_attempt_through) {
  const Backoff backoff;
  CHECK(backoff.may_try(0));
  CHECK(backoff.may_try(1));
}

TEST(Backoff, doubles_up_to_a_second) {
  Backoff backoff;
  std::uint64_t now = 1'000;
  const std::uint64_t waits_ms[] = {50, 100, 200, 400, 800, 1'000, 1'000, 1'000};
  for (const std::uint64_t ms : waits_ms) {
    backoff.failed(now);
    CHECK(!backoff.may_try(now));
    CHECK(!backoff.may_try(now + ms * 1'000'000 - 1));
    now += ms * 1'000'000;
    CHECK(backoff.may_try(now));
  }
}

TEST(Backoff, begins_anew_after_a_success) {
  Backoff backoff;
  for (int i = 0; i < 9; ++i) backoff.failed(0);
  backoff.reset();
  CHECK(backoff.may_try(0));
  backoff.failed(0);
  CHECK(backoff.may_try(Backoff::kFirstNs));
}
