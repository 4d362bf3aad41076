// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/parked.h"

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/capacity.h"
#include "lingerd/core/carry.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/return_lines.h"
#include "lingerd/core/shares.h"

// CppUTest redefines new: last.
#include <CppUTest/TestHarness.h>

using namespace lingerd;
using enum DaemonCounter;

namespace {

constexpr std::uint64_t kMs = 1'000'000;

// Sockets that do as they are told, and note what is done to them.
struct FakePark final : ParkOps {
  struct Socket {
    Peek peek = Peek::kNothing;
    bool armed = false;
    bool for_fin = false;
    std::uint32_t generation = 0;
  };
  std::map<SocketId, Socket> open;
  std::map<SocketId, Return> returned;
  std::map<SocketId, Handoff> lingering;
  std::set<SocketId> closed;
  std::map<AddressId, int> users;
  SendBack way = SendBack::kSent;
  int room = 1'000'000;  // in httpd's listen queue, while the way is open
  int attempts = 0;
  bool refuse_watch = false;

  bool watch(SocketId id, std::uint32_t generation, Watch how) override {
    if (refuse_watch) return false;
    open[id].for_fin = how == Watch::kForFin;
    open[id].armed = true;
    open[id].generation = generation;
    return true;
  }
  Peek peek(SocketId id, bool over_tls) override {
    CHECK(open.count(id) == 1);  // what has gone must not be touched
    const Peek seen = open[id].peek;
    return seen == Peek::kGoodbye && !over_tls ? Peek::kBytes : seen;
  }
  SendBack send_back(SocketId id, AddressId, const Return& back) override {
    ++attempts;
    if (way == SendBack::kSent && room-- <= 0) return room = 0, SendBack::kLater;
    if (way == SendBack::kSent) returned[id] = back;
    return way;
  }
  void close(SocketId id) override {
    CHECK(open.erase(id) == 1);
    closed.insert(id);
  }
  void linger(SocketId id, const Handoff& handoff, std::uint64_t) override {
    CHECK(open.erase(id) == 1);
    lingering[id] = handoff;
  }
  void release(AddressId address) override { --users[address]; }
};

}  // namespace

TEST_GROUP(parked) {
  FakePark ops;
  DaemonCounters counters;
  Capacity capacity{counters, 1'000'000};
  Parked parked{ops, capacity, counters};
  std::uint64_t now = 1'000 * kMs;

  void park(SocketId id, std::uint32_t timeout_ms = 5'000, AddressId address = 0,
            std::uint64_t began_ns = 0, Shares::User user = 0, bool over_tls = false) {
    Handoff handoff;
    handoff.user = user;
    handoff.over_tls = over_tls;
    handoff.kind = RecordKind::kIdle;
    handoff.idle_ms = 2'000;
    handoff.cap_ms = 30'000;
    handoff.stall_ms = timeout_ms;
    handoff.keepalives = 7;
    handoff.ticket = 0x1234'5678'9abc'def0 + id;
    handoff.handed_off_ns = began_ns != 0 ? began_ns : now;
    ops.open[id] = {};
    ++ops.users[address];
    parked.arrive(id, address, handoff, now);
  }
  void asks(SocketId id) {
    ops.open[id].peek = ParkOps::Peek::kBytes;
    parked.ready(id, ops.open[id].generation, now);
  }
  void later(std::uint64_t ms) {
    now += ms * kMs;
    parked.expire(now, 1'000);
  }
  void teardown() override {
    CHECK(parks_add_up(counters));
  }
};

TEST(parked, a_request_goes_back_with_what_httpd_has_to_know) {
  park(10);
  LONGS_EQUAL(1, counters[kParked]);
  later(300);
  asks(10);
  LONGS_EQUAL(7, ops.returned[10].keepalives);
  UNSIGNED_LONGLONGS_EQUAL(0x1234'5678'9abc'def0 + 10, ops.returned[10].tag);
  LONGS_EQUAL(5'000, ops.returned[10].keepalive_ms);
  LONGS_EQUAL(300 * kMs, ops.returned[10].parked_ns);
  CHECK(ops.closed.count(10) == 1);  // our copy of the descriptor
  LONGS_EQUAL(0, ops.users[0]);
  LONGS_EQUAL(0, counters[kParked]);
  LONGS_EQUAL(1, counters[kReturned]);
  LONGS_EQUAL(300, counters[kParkMillisFreed]);
  LONGS_EQUAL(300, counters[kWorkerMillisFreed]);
  CHECK(!parked.next_deadline());
}

TEST(parked, a_goodbye_over_tls_waits_for_its_fin) {
  park(10, 5'000, 0, 0, 0, true);
  ops.open[10].peek = ParkOps::Peek::kGoodbye;
  parked.ready(10, ops.open[10].generation, now);
  CHECK(ops.open[10].for_fin);  // what is there would be reported again and again
  later(kFinWaitMs - 1);
  LONGS_EQUAL(1, counters[kParked]);
  ops.open[10].peek = ParkOps::Peek::kClosed;
  parked.ready(10, ops.open[10].generation, now);
  LONGS_EQUAL(1, counters[kParkClosedByClient]);
  CHECK(ops.returned.empty());
}

TEST(parked, a_goodbye_without_a_fin_goes_to_httpd) {
  park(10, 5'000, 0, 0, 0, true);
  ops.open[10].peek = ParkOps::Peek::kGoodbye;
  parked.ready(10, ops.open[10].generation, now);
  later(kFinWaitMs);
  LONGS_EQUAL(1, counters[kReturned]);
}

TEST(parked, a_goodbye_waits_no_longer_than_the_stay) {
  park(10, 5'000, 0, 0, 0, true);
  later(4'990);
  ops.open[10].peek = ParkOps::Peek::kGoodbye;
  parked.ready(10, ops.open[10].generation, now);
  later(11);
  LONGS_EQUAL(1, counters[kReturned]);
}

TEST(parked, nothing_to_read_is_no_request) {
  park(10);
  ops.open[10].armed = false;
  parked.ready(10, ops.open[10].generation, now);
  CHECK(ops.open[10].armed);
  LONGS_EQUAL(1, counters[kParked]);
}

TEST(parked, a_client_that_closes_is_let_go) {
  park(10);
  ops.open[10].peek = ParkOps::Peek::kClosed;
  parked.ready(10, ops.open[10].generation, now);
  CHECK(ops.closed.count(10) == 1);
  LONGS_EQUAL(1, counters[kParkClosedByClient]);
}

TEST(parked, never_earlier_than_its_timeout) {
  now = 1'000 * kMs + kMs - 1;
  park(10, 100);
  now += 100 * kMs;
  parked.expire(now, 10);
  LONGS_EQUAL(1, counters[kParked]);
  later(1);
  LONGS_EQUAL(1, counters[kParkExpired]);
  LONGS_EQUAL(2'000, ops.lingering[10].idle_ms);
  LONGS_EQUAL(30'000, ops.lingering[10].cap_ms);
}

TEST(parked, the_time_in_httpd_counts) {
  park(10, 1'000, 0, now - 400 * kMs);
  later(601);
  LONGS_EQUAL(1, counters[kParkExpired]);
}

TEST(parked, a_start_in_the_future_or_long_ago_is_not_believed) {
  park(11, 1'000, 0, 1);
  park(10, 1'000, 0, now + 3'600'000 * kMs);
  LONGS_EQUAL(2, counters[kParked]);
  later(1);
  LONGS_EQUAL(1, counters[kParkExpired]);
  later(1'000);
  LONGS_EQUAL(2, counters[kParkExpired]);
}

TEST(parked, a_request_at_the_last_moment_goes_back) {
  park(10, 100);
  ops.open[10].peek = ParkOps::Peek::kBytes;  // epoll hasn't said so yet
  later(200);
  CHECK(ops.returned.count(10) == 1);
  LONGS_EQUAL(0, counters[kParkExpired]);
}

TEST(parked, a_full_listen_queue_is_tried_again) {
  park(10);
  ops.way = ParkOps::SendBack::kLater;
  asks(10);
  for (int i = 0; i < 100; ++i) later(50);
  LONGS_EQUAL(1, counters[kParked]);  // longer than KeepAliveTimeout
  ops.way = ParkOps::SendBack::kSent;
  later(100);
  LONGS_EQUAL(1, counters[kReturned]);
}

TEST(parked, not_for_ever) {
  park(10);
  ops.way = ParkOps::SendBack::kLater;
  asks(10);
  for (std::uint32_t waited = 0; waited < kReturnLimitMs; waited += 50) {
    LONGS_EQUAL(1, counters[kParked]);
    later(50);
  }
  later(100);
  LONGS_EQUAL(1, counters[kReturnFailed]);
  CHECK(ops.lingering.count(10) == 1);
}

TEST(parked, retries_come_less_and_less_often) {
  park(10);
  ops.way = ParkOps::SendBack::kLater;
  asks(10);
  std::uint64_t before = now;
  for (const std::uint64_t expected : {1, 2, 4, 8, 16, 32, 64, 64}) {
    LONGS_EQUAL(before / kMs + expected, *parked.next_deadline());
    now = before + expected * kMs;
    parked.expire(now, 10);
    before = now;
  }
}

TEST(parked, nobody_overtakes_who_waits_for_longer) {
  for (const SocketId id : {10, 11, 12, 13}) park(id);
  ops.room = 0;
  for (const SocketId id : {12, 10, 13}) asks(id);
  LONGS_EQUAL(1, ops.attempts);  // by the first one, for all of them
  ops.room = 1;
  asks(11);  // there would be room, but others were first
  CHECK(ops.returned.empty());
  later(1);
  CHECK(ops.returned.count(12) == 1);
  for (const SocketId id : {10, 13, 11}) {
    ops.room = 1;
    CHECK(ops.returned.count(id) == 0);
    later(64);
    CHECK(ops.returned.count(id) == 1);
  }
  LONGS_EQUAL(4, counters[kReturned]);
}

TEST(parked, a_full_queue_holds_up_nobody_elses) {
  park(10, 5'000, 0);
  park(11, 5'000, 1);
  ops.way = ParkOps::SendBack::kLater;
  asks(10);
  ops.way = ParkOps::SendBack::kSent;
  asks(11);
  CHECK(ops.returned.count(11) == 1);
}

TEST(parked, a_long_line_costs_one_attempt_at_a_time) {
  for (SocketId id = 10; id < 5'010; ++id) park(id);
  ops.room = 0;
  for (SocketId id = 10; id < 5'010; ++id) asks(id);
  LONGS_EQUAL(1, ops.attempts);
  later(64);
  LONGS_EQUAL(2, ops.attempts);
  ops.room = 5'000;
  parked.expire(now + 64 * kMs, 10);
  LONGS_EQUAL(kReturnsAtOnce, counters[kReturned]);
  CHECK(*parked.next_deadline() <= now / kMs + 64);  // and goes on at once
}

// A line that moves is waited in, however long that takes: the last one's turn comes.
TEST(parked, who_waits_in_a_line_that_moves_isnt_given_up) {
  for (SocketId id = 10; id < 30; ++id) park(id);
  ops.room = 0;
  for (SocketId id = 10; id < 30; ++id) asks(id);
  for (int i = 0; i < 20; ++i) {
    for (int second = 0; second < 9; ++second) later(1'000);
    ops.room = 1;
    later(1'000);
  }
  LONGS_EQUAL(20, counters[kReturned]);
}

TEST(parked, who_waits_in_line_postpones_no_timeout) {
  for (SocketId id = 10; id < 1'010; ++id) park(id, 20'000);
  for (SocketId id = 2'000; id < 2'010; ++id) park(id, 100);
  ops.room = 0;
  for (SocketId id = 10; id < 1'010; ++id) asks(id);
  ops.room = 1'000;
  now += 101 * kMs;
  parked.expire(now, 10);
  LONGS_EQUAL(10, counters[kParkExpired]);
}

TEST(parked, who_resets_on_the_way_back_is_let_go) {
  park(10);
  ops.way = ParkOps::SendBack::kLater;
  asks(10);
  ops.open[10].peek = ParkOps::Peek::kClosed;
  later(5);
  LONGS_EQUAL(1, counters[kParkClosedByClient]);
}

TEST(parked, no_way_back_any_more) {
  park(10);
  ops.way = ParkOps::SendBack::kGone;
  asks(10);
  LONGS_EQUAL(1, counters[kReturnFailed]);
  CHECK(ops.lingering.count(10) == 1);
}

TEST(parked, the_end_of_an_httpd_is_that_of_its_connections_only) {
  park(10, 5'000, 0);
  park(11, 5'000, 1);
  parked.abandon(0, now);
  LONGS_EQUAL(1, counters[kReturnFailed]);
  LONGS_EQUAL(1, counters[kParked]);
  CHECK(ops.open.count(11) == 1);
}

TEST(parked, stale_events_are_ignored) {
  park(10);
  const std::uint32_t generation = ops.open[10].generation;
  ops.open[10].peek = ParkOps::Peek::kClosed;
  parked.ready(10, generation, now);
  park(10);
  ops.open[10].peek = ParkOps::Peek::kClosed;
  parked.ready(10, generation, now);
  parked.ready(4'711, 1, now);
  LONGS_EQUAL(1, counters[kParked]);
}

TEST(parked, room_is_made_by_the_nearest_timeout) {
  park(10, 9'000);
  park(11, 1'000);
  park(12, 5'000);
  capacity.set_limit(2, now);
  CHECK(ops.closed.count(11) == 1);  // no linger, which takes as much room
  LONGS_EQUAL(1, counters[kParkExpired]);
  ops.open[12].peek = ParkOps::Peek::kBytes;
  capacity.set_limit(1, now);
  CHECK(ops.returned.count(12) == 1);
  capacity.set_limit(0, now);
  LONGS_EQUAL(0, parked.size());
}

TEST(parked, room_is_made_by_the_user_that_holds_most) {
  park(10, 1'000, 0, 0, 33);
  for (SocketId id = 20; id < 25; ++id) park(id, 9'000, 1, 0, 4711);
  capacity.set_limit(3, now);
  CHECK(ops.open.contains(10));  // though it is nearest its timeout
  LONGS_EQUAL(3, counters[kOverShare]);
  capacity.set_limit(2, now);  // both have as much then
  CHECK(ops.open.contains(10));
  capacity.set_limit(1, now);
  LONGS_EQUAL(4, counters[kOverShare]);
}

TEST(parked, room_is_made_in_a_line_by_the_user_that_holds_most) {
  park(20, 9'000, 0, 0, 4711);
  park(21, 9'000, 0, 0, 4711);
  park(10, 9'000, 0, 0, 33);
  ops.way = ParkOps::SendBack::kLater;
  for (const SocketId id : {20, 21, 10}) {
    ops.open[id].peek = ParkOps::Peek::kBytes;
    parked.ready(id, ops.open[id].generation, now);
  }
  capacity.set_limit(2, now);
  CHECK(!ops.open.contains(21));  // its last, not the line's
  LONGS_EQUAL(1, counters[kReturnFailed]);
}

TEST(parked, who_it_came_from_stays_known) {
  park(10, 5'000, 0, 0, 33);
  LONGS_EQUAL(33, parked.carry_out()[0].state.user);
  later(6'000);
  LONGS_EQUAL(33, ops.lingering[10].user);
  LONGS_EQUAL(0, capacity.shares().total());
}

TEST(parked, room_is_made_though_nobody_takes_requests) {
  park(10);
  park(11);
  ops.way = ParkOps::SendBack::kLater;
  ops.open[10].peek = ops.open[11].peek = ParkOps::Peek::kBytes;
  capacity.set_limit(0, now);
  LONGS_EQUAL(0, parked.size());
  LONGS_EQUAL(2, counters[kReturnFailed]);
}

TEST(parked, an_epoll_that_refuses_ends_it) {
  ops.refuse_watch = true;
  park(10);
  LONGS_EQUAL(1, counters[kParkExpired]);
  CHECK(ops.lingering.count(10) == 1);
}

TEST(parked, the_end_of_lingerd_lets_requests_through) {
  park(10);
  park(11);
  ops.open[11].peek = ParkOps::Peek::kBytes;
  parked.end_all(now);
  LONGS_EQUAL(1, counters[kParkExpired]);
  LONGS_EQUAL(1, counters[kReturned]);
}

TEST(parked, goes_on_in_the_next_lingerd) {
  park(10, 5'000, 3);
  park(11, 5'000, 4);
  ops.way = ParkOps::SendBack::kLater;
  asks(11);
  later(1'000);
  CarriedState state;
  state.counters = counters;
  state.addresses = 5;
  std::vector<Parked::Carried> carried = parked.carry_out();
  for (Parked::Carried& each : carried) {
    each.state.address = static_cast<std::uint16_t>(each.address);
    state.parked.push_back(each.state);
  }
  CarriedState arrived;
  CHECK(decode(encode(state), now / kMs, arrived) == CarryResult::kOk);
  LONGS_EQUAL(2, arrived.parked.size());

  FakePark next_ops;
  DaemonCounters next_counters = arrived.counters;
  Capacity next_capacity{next_counters, 1'000'000};
  Parked next{next_ops, next_capacity, next_counters};
  for (std::size_t i = 0; i < carried.size(); ++i) {
    carried[i].state = arrived.parked[i];
    next_ops.open[carried[i].id] = {};
  }
  next_ops.open[11].peek = ParkOps::Peek::kBytes;
  next.carry_in(carried, now);
  LONGS_EQUAL(2, next_counters[kParked]);
  CHECK(next_ops.open[10].armed);
  next.expire(now + kMs, 10);
  LONGS_EQUAL(7, next_ops.returned[11].keepalives);
  UNSIGNED_LONGLONGS_EQUAL(0x1234'5678'9abc'def0 + 11, next_ops.returned[11].tag);
  next.expire(now + 3'999 * kMs, 10);
  LONGS_EQUAL(1, next_counters[kParked]);
  next.expire(now + 4'001 * kMs, 10);
  LONGS_EQUAL(1, next_counters[kParkExpired]);
  CHECK(parks_add_up(next_counters));
}

// The last one's list is one of rounded durations: it waits for longer than was asked, but not for
// longer each time, until no successor believes it.
TEST(parked, a_handover_gives_no_more_time) {
  constexpr SocketId kLast = DeadlineQueue::kMaxDurations;
  for (SocketId id = 0; id < kLast; ++id) park(id, 5'000 + id);
  park(kLast, 2'100'000);
  const std::vector<Parked::Carried> carried = parked.carry_out();
  FakePark next_ops;
  DaemonCounters next_counters = counters;
  Capacity next_capacity{next_counters, 1'000'000};
  Parked next{next_ops, next_capacity, next_counters};
  for (const Parked::Carried& each : carried) next_ops.open[each.id] = {};
  next.carry_in(carried, now);
  const std::vector<Parked::Carried> again = next.carry_out();
  LONGS_EQUAL(kLast + 1, again.size());
  for (SocketId id = 0; id <= kLast; ++id) {
    LONGS_EQUAL(carried[id].state.deadline_ms, again[id].state.deadline_ms);
  }
}

TEST(parked, what_got_lost_between_two_has_ended) {
  park(10);
  DaemonCounters next_counters = counters;
  FakePark next_ops;
  Capacity next_capacity{next_counters, 1'000'000};
  Parked next{next_ops, next_capacity, next_counters};
  next.carry_in({}, now);
  CHECK(parks_add_up(next_counters));
  LONGS_EQUAL(0, next_counters[kParked]);
}

// Random lives against what each one must come to: every socket is in exactly one place.
TEST(parked, model) {
  std::mt19937 random(20'260'101);
  const auto chance = [&](unsigned in) { return random() % in == 0; };
  SocketId next_id = 0;
  for (int step = 0; step < 20'000; ++step) {
    const std::size_t before = ops.open.size();
    LONGS_EQUAL(before, parked.size());
    LONGS_EQUAL(before, counters[kParked]);
    if (chance(2) && before < 50) park(next_id++ % 200, 1 + random() % 200, random() % 3);
    if (!ops.open.empty() && chance(2)) {
      auto at = ops.open.begin();
      std::advance(at, random() % ops.open.size());
      at->second.peek = static_cast<ParkOps::Peek>(random() % 3);
      if (at->second.armed) {
        at->second.armed = false;
        parked.ready(at->first, at->second.generation, now);
      }
    }
    ops.way = static_cast<ParkOps::SendBack>(chance(20) ? 2 : random() % 2);
    if (chance(3)) later(random() % 40);
    if (chance(200)) capacity.set_limit(random() % 20, now);
    if (chance(300)) parked.abandon(random() % 3, now);
    CHECK(parks_add_up(counters));
    // Numbers come back.
    while (ops.open.count(next_id % 200) == 1) ++next_id;
  }
  parked.end_all(now);
  later(kReturnLimitMs + 1'000);
  later(kReturnLimitMs + 1'000);
  ops.way = ParkOps::SendBack::kGone;
  later(1'000);
  LONGS_EQUAL(0, parked.size());
  for (const auto& [address, users] : ops.users) LONGS_EQUAL(0, users);
}
