// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "mod_linger/request/hope.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd;

TEST_GROUP(Hope){};

TEST(Hope, ends_after_some_waits_in_vain_and_begins_again) {
  Hope hope;
  LONGS_EQUAL(Hope::kWaitMs, hope.worth_waiting(1'000));
  for (std::uint32_t i = 1; i < Hope::kMostInVain; ++i) {
    hope.waited_in_vain(1'000);
    LONGS_EQUAL(Hope::kWaitMs, hope.worth_waiting(1'000));
  }
  hope.waited_in_vain(1'000);
  LONGS_EQUAL(0, hope.worth_waiting(1'000));
  LONGS_EQUAL(0, hope.worth_waiting(1'000 + Hope::kRenewedAfterMs - 1));
  LONGS_EQUAL(Hope::kWaitMs, hope.worth_waiting(1'000 + Hope::kRenewedAfterMs));
  hope.waited_in_vain(1'300);  // once more is enough
  LONGS_EQUAL(0, hope.worth_waiting(1'300));
}

TEST(Hope, comes_back_with_a_request) {
  Hope hope;
  for (int i = 0; i < 10; ++i) hope.waited_in_vain(1'000);
  hope.came();
  LONGS_EQUAL(Hope::kWaitMs, hope.worth_waiting(1'000));
}
