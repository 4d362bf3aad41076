// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/link/obstacle.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

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
  CHECK(obstacle_of(EAFNOSUPPORT) == Obstacle::kDenied);
}

TEST(Obstacle, a_closed_descriptor_says_nothing_of_lingerd) {
  CHECK(obstacle_of(EBADF) == Obstacle::kRefused);
}

TEST(Obstacle, each_is_said_in_its_own_words) {
  STRCMP_EQUAL("nothing", words_of(Obstacle::kNone).brief);
  STRCMP_CONTAINS("down", words_of(Obstacle::kDown).brief);
  STRCMP_CONTAINS("version", words_of(Obstacle::kOtherVersion).brief);
  STRCMP_CONTAINS("busy", words_of(Obstacle::kBusy).brief);
  STRCMP_CONTAINS("not answered", words_of(Obstacle::kGreeting).brief);
  STRCMP_CONTAINS("denied", words_of(Obstacle::kDenied).brief);
  STRCMP_CONTAINS("refused", words_of(Obstacle::kRefused).brief);
}

TEST(Obstacle, a_warning_takes_the_path_and_the_reason) {
  for (const auto obstacle :
       {Obstacle::kDown, Obstacle::kOtherVersion, Obstacle::kBusy, Obstacle::kDenied}) {
    const std::string_view warning = words_of(obstacle).warning;
    int formats = 0;
    for (std::size_t at = 0; (at = warning.find('%', at)) != warning.npos; ++at) {
      CHECK_EQUAL('s', warning.at(at + 1));
      ++formats;
    }
    LONGS_EQUAL(2, formats);
    CHECK(*words_of(obstacle).last_hand_off != '\0');
  }
  for (const auto obstacle : {Obstacle::kNone, Obstacle::kGreeting, Obstacle::kRefused}) {
    CHECK(words_of(obstacle).warning == nullptr);
    STRCMP_EQUAL("", words_of(obstacle).last_hand_off);
  }
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

TEST(Backoff, begins_again_after_a_success) {
  Backoff backoff;
  for (int i = 0; i < 9; ++i) backoff.failed(0);
  backoff.reset();
  CHECK(backoff.may_try(0));
  backoff.failed(0);
  CHECK(backoff.may_try(Backoff::kFirstNs));
}
