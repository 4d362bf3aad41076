// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/shares.h"

#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <random>
#include <utility>

// CppUTest redefines new: last.
#include <CppUTest/TestHarness.h>

using namespace lingerd;
using Kind = Shares::Kind;

TEST_GROUP(shares) {
  Shares shares;
};

TEST(shares, a_user_that_is_alone_makes_room_itself_and_is_over_nothing) {
  shares.add(33, Kind::kLinger, 100);
  for (const auto asking : {std::optional<Shares::User>(33), std::optional<Shares::User>()}) {
    const auto choice = shares.who_makes_room(asking, 1);
    CHECK(choice && choice->is_able && !choice->is_over);
    LONGS_EQUAL(33, shares.user(choice->place));
  }
}

TEST(shares, who_holds_most_makes_room) {
  shares.add(33, Kind::kLinger, 10);
  shares.add(4711, Kind::kLinger, 90);
  const auto choice = shares.who_makes_room(33, 1);
  LONGS_EQUAL(4711, shares.user(choice->place));
  CHECK(choice->is_over);
}

TEST(shares, at_equal_shares_who_wants_more_makes_room) {
  shares.add(33, Kind::kLinger, 50);
  shares.add(4711, Kind::kLinger, 50);
  LONGS_EQUAL(4711, shares.user(shares.who_makes_room(4711, 1)->place));
  LONGS_EQUAL(33, shares.user(shares.who_makes_room(33, 1)->place));
}

TEST(shares, a_newcomer_has_a_share) {
  shares.add(4711, Kind::kParked, 100);
  const auto choice = shares.who_makes_room(33, 1);
  LONGS_EQUAL(4711, shares.user(choice->place));
  CHECK(choice->is_over);
}

TEST(shares, what_cant_be_ended_counts_and_is_spared) {
  shares.add(33, Kind::kLinger, 10);
  shares.add(4711, Kind::kFixed, 90);
  // It would have to make room and can't: nobody else does that for it.
  auto choice = shares.who_makes_room(4711, 1);
  CHECK(choice && !choice->is_able);
  LONGS_EQUAL(4711, shares.user(choice->place));
  choice = shares.who_makes_room(33, 1);
  CHECK(choice && choice->is_able);
  LONGS_EQUAL(33, shares.user(choice->place));
  CHECK(!choice->is_over);
}

TEST(shares, parked_ones_can_make_room) {
  shares.add(33, Kind::kParked, 2);
  CHECK(shares.who_makes_room(std::nullopt, 1)->is_able);
}

TEST(shares, nobody_makes_room_in_an_empty_table) {
  CHECK(!shares.who_makes_room(std::nullopt, 1));
  const auto choice = shares.who_makes_room(33, 1);
  CHECK(choice && !choice->is_able && !choice->is_over);
}

TEST(shares, a_place_is_given_to_another_when_it_is_free) {
  const Shares::Place place = shares.add(33, Kind::kLinger);
  shares.remove(place, Kind::kLinger);
  LONGS_EQUAL(0, shares.users());
  LONGS_EQUAL(place, shares.add(4711, Kind::kLinger));
  LONGS_EQUAL(4711, shares.user(place));
}

TEST(shares, more_users_than_places_share_one) {
  for (Shares::User user = 1; user <= 1'000; ++user) shares.add(user, Kind::kLinger);
  LONGS_EQUAL(1'000, shares.total());
  LONGS_EQUAL(Shares::kMostUsers, shares.users());
  const auto choice = shares.who_makes_room(7, 1);
  LONGS_EQUAL(Shares::kMostUsers - 1, choice->place);
}

TEST(shares, agree_with_a_map_whatever_happens) {
  std::mt19937 random(4'711);
  std::map<std::pair<Shares::Place, int>, std::size_t> model;
  std::size_t total = 0;
  for (int step = 0; step < 50'000; ++step) {
    const auto kind = static_cast<int>(random() % Shares::kKinds);
    if (random() % 2 == 0) {
      const Shares::User user = random() % 90;
      const Shares::Place place = shares.add(user, static_cast<Kind>(kind), 2);
      ++model[{place, kind}];
      total += 2;
    } else if (!model.empty()) {
      const auto at = model.begin();
      shares.remove(at->first.first, static_cast<Kind>(at->first.second), 2);
      if (--at->second == 0) model.erase(at);
      total -= 2;
    }
    UNSIGNED_LONGS_EQUAL(total, shares.total());
    std::array<std::size_t, Shares::kMostUsers> held{};
    for (const auto& [key, count] : model) held[key.first] += 2 * count;
    std::size_t users = 0;
    for (std::size_t i = 0; i < held.size(); ++i) {
      users += held[i] > 0 ? 1 : 0;
      UNSIGNED_LONGS_EQUAL(held[i], shares.held(static_cast<Shares::Place>(i)));
    }
    UNSIGNED_LONGS_EQUAL(users, shares.users());
  }
}
