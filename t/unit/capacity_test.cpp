// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/capacity.h"

#include <cstddef>
#include <cstdint>
#include <string>

#include "contract/counters.h"
#include "lingerd/core/shares.h"

// CppUTest redefines new: last.
#include <CppUTest/TestHarness.h>

using namespace lingerd;
using Kind = Shares::Kind;

namespace {

// Holds what the test says, and notes in which order it goes.
struct Holder final : Capacity::Lingers, Capacity::Stays, Capacity::Witness {
  explicit Holder(Capacity& over) : capacity(over) {
    capacity.set(static_cast<Capacity::Lingers&>(*this));
    capacity.set(static_cast<Capacity::Stays&>(*this));
    capacity.set(static_cast<Capacity::Witness&>(*this));
  }
  void evict_one_of(const Shares::Choice& user, std::uint64_t) override {
    order += 'l';
    capacity.shares().remove(user.place, Kind::kLinger);
  }
  bool evict_delivery(std::uint64_t) override {
    if (deliveries == 0) return false;
    --deliveries;
    order += 'd';
    capacity.shares().remove(delivers, Kind::kFixed, 2);
    return true;
  }
  void end_one_of(const Shares::Choice& user, std::uint64_t) override {
    order += 'p';
    capacity.shares().remove(user.place, Kind::kParked);
  }
  void over_share(Capacity::User user, std::size_t holds, std::uint64_t) override {
    over = std::to_string(user) + " holds " + std::to_string(holds);
  }
  void deliver(Capacity::User user, std::size_t count) {
    for (; count > 0; --count, ++deliveries) {
      delivers = capacity.shares().add(user, Kind::kFixed, 2);
    }
  }

  Capacity& capacity;
  std::string order;
  std::string over;
  std::size_t deliveries = 0;
  Shares::Place delivers = 0;
};

}  // namespace

TEST_GROUP(Capacity) {
  DaemonCounters counters;
  Capacity capacity{counters, 10};
  Holder holder{capacity};
  Shares& shares = capacity.shares();
};

TEST(Capacity, is_on_the_page) {
  LONGS_EQUAL(10, counters[DaemonCounter::kQueueLimit]);
  capacity.set_limit(20, 0);
  LONGS_EQUAL(20, counters[DaemonCounter::kQueueLimit]);
  LONGS_EQUAL(20, capacity.limit());
}

TEST(Capacity, ends_nothing_while_there_is_room) {
  shares.add(33, Kind::kLinger, 9);
  CHECK(capacity.make_room_for(33, 1, 0));
  STRCMP_EQUAL("", holder.order.c_str());
}

TEST(Capacity, of_a_lower_limit_ends_parked_ones_then_lingers_then_deliveries) {
  shares.add(33, Kind::kLinger, 2);
  shares.add(33, Kind::kParked, 2);
  holder.deliver(33, 3);
  capacity.set_limit(2, 0);
  STRCMP_EQUAL("pplldd", holder.order.c_str());
  LONGS_EQUAL(2, shares.total());
}

TEST(Capacity, is_over_where_nothing_can_be_ended) {
  shares.add(33, Kind::kFixed, 12);  // offers
  capacity.make_room(1, 0);
  STRCMP_EQUAL("", holder.order.c_str());
}

TEST(Capacity, is_not_made_of_deliveries_for_a_user_that_asks) {
  holder.deliver(33, 5);
  CHECK(!capacity.make_room_for(33, 1, 0));
  CHECK(capacity.make_room_for(4711, 0, 0));
  STRCMP_EQUAL("", holder.order.c_str());
}

TEST(Capacity, tells_who_is_over_its_share) {
  shares.add(33, Kind::kLinger, 9);
  CHECK(capacity.make_room_for(33, 2, 0));
  STRCMP_EQUAL("", holder.over.c_str());  // alone, it may have all
  shares.add(4711, Kind::kParked, 2);
  CHECK(capacity.make_room_for(4711, 1, 0));
  STRCMP_EQUAL("ll", holder.order.c_str());
  STRCMP_EQUAL("33 holds 8", holder.over.c_str());
}

TEST(Capacity, tells_of_a_user_that_has_nothing_to_end) {
  shares.add(33, Kind::kLinger, 1);
  holder.deliver(4711, 5);
  CHECK(!capacity.make_room_for(4711, 1, 0));
  STRCMP_EQUAL("4711 holds 10", holder.over.c_str());
}
