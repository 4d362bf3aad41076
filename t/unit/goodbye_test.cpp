// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/goodbye.h"

#include <cstddef>
#include <vector>

#include <CppUTest/TestHarness.h>

using namespace lingerd;

namespace {

std::vector<std::byte> records(std::size_t count) {
  std::vector<std::byte> out;
  for (std::size_t i = 0; i < count; ++i) {
    for (const int byte : {23, 3, 3, 0, 19}) out.push_back(static_cast<std::byte>(byte));
    out.resize(out.size() + 19, std::byte{0xa5});
  }
  return out;
}

}  // namespace

TEST_GROUP(goodbye){};

TEST(goodbye, one_alert_or_two) {
  CHECK(is_goodbye(records(1)));
  CHECK(is_goodbye(records(2)));
  CHECK(!is_goodbye(records(0)));
  CHECK(!is_goodbye(records(3)));
}

TEST(goodbye, nothing_else) {
  for (std::size_t at = 0; at < 5; ++at) {
    for (const std::size_t record : {0, 1}) {
      auto changed = records(2);
      changed[record * kAlertRecord + at] ^= std::byte{1};
      CHECK(!is_goodbye(changed));
    }
  }
  auto cut = records(2);
  while (!cut.empty()) {
    cut.pop_back();
    CHECK_EQUAL(cut.size() == kAlertRecord, is_goodbye(cut));
  }
}
