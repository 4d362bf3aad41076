// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/stay_table.h"
#include "mod_linger_tls/layer/state.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include <CppUTest/TestHarness.h>

using namespace lingerd::tls;

namespace {

constexpr std::uint64_t kNow = 1'000'000'000'000;
constexpr std::uint64_t kUntil = kNow + 5'000'000'000;

std::vector<unsigned char> sealed(std::size_t length, unsigned char first = 1) {
  std::vector<unsigned char> out(length);
  for (unsigned char& byte : out) byte = first++;
  return out;
}

NewStay stay_of(std::uint64_t cookie, std::uint64_t number = 1) {
  return {
      .id = (cookie * 1'000 + number) << 2, .cookie = cookie, .generation = 7, .until_ns = kUntil};
}

}  // namespace

// Zero, as the kernel gives it, and untouched.
TEST_GROUP(stay_table) {
  void* memory =
      mmap(nullptr, sizeof(StayTable), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  Stays stays{*static_cast<StayTable*>(memory)};
  std::array<unsigned char, kMaxSealedState> out{};

  void teardown() override {
    munmap(memory, sizeof(StayTable));
  }
};

TEST(stay_table, what_is_kept_is_claimed_once) {
  const NewStay stay = stay_of(42);
  const auto state = sealed(300);
  CHECK(stays.keep(stay, state, kNow));
  CHECK(stays.last_of(42) == stay.id);
  UNSIGNED_LONGS_EQUAL(1, stays.kept(kNow));
  const Stays::Claimed claimed = stays.claim(42, stay.id, out);
  CHECK(claimed.good);
  UNSIGNED_LONGS_EQUAL(7, claimed.generation);
  UNSIGNED_LONGS_EQUAL(300, claimed.length);
  CHECK(std::equal(state.begin(), state.end(), out.begin()));
  CHECK(!stays.claim(42, stay.id, out).good);
  UNSIGNED_LONGS_EQUAL(0, stays.kept(kNow));
}

TEST(stay_table, who_comes_twice_is_told_from_who_makes_things_up) {
  const NewStay stay = stay_of(42);
  CHECK(stays.keep(stay, sealed(300), kNow));
  CHECK(stays.claim(42, stay.id, out).good);
  CHECK(stays.last_of(42) == stay.id);
  CHECK(stays.last_of(43) == 0);
}

TEST(stay_table, what_nobody_comes_for_is_wiped) {
  const NewStay expired = stay_of(42);
  NewStay later = stay_of(43);
  later.until_ns = kUntil + 1'000'000'000;
  CHECK(stays.keep(expired, sealed(300), kNow));
  CHECK(stays.keep(later, sealed(300), kNow));
  stays.wipe_expired(kUntil + 1);
  CHECK(!stays.claim(42, expired.id, out).good);
  CHECK(stays.last_of(42) == expired.id);
  CHECK(stays.claim(42, expired.id, out).expired);  // no second time
  CHECK(stays.claim(43, later.id, out).good);
  CHECK(!stays.claim(43, later.id, out).expired);
  const auto& shelf = static_cast<const StayTable*>(memory)->small.bytes;
  CHECK(std::ranges::all_of(shelf, [](const auto& place) {
    return std::ranges::all_of(place, [](unsigned char byte) { return byte == 0; });
  }));
}

TEST(stay_table, another_id_or_socket_gets_nothing) {
  const NewStay stay = stay_of(42);
  CHECK(stays.keep(stay, sealed(300), kNow));
  CHECK(!stays.claim(42, stay.id + 4, out).good);
  CHECK(!stays.claim(142, stay.id, out).good);
  CHECK(stays.claim(42, stay.id, out).good);
}

TEST(stay_table, an_older_stay_of_the_same_socket_is_over) {
  const NewStay first = stay_of(42, 1);
  const NewStay second = stay_of(42, 2);
  CHECK(stays.keep(first, sealed(300), kNow));
  CHECK(stays.claim(42, first.id, out).good);
  CHECK(stays.keep(second, sealed(300), kNow));
  CHECK(stays.last_of(42) == second.id);
  CHECK(!stays.claim(42, first.id, out).good);
  CHECK(stays.claim(42, second.id, out).good);
}

// From one size to the other, as a state may grow.
TEST(stay_table, the_one_that_is_kept_is_the_last) {
  const NewStay small = stay_of(42, 1);
  const NewStay large = stay_of(42, 2);
  CHECK(stays.keep(small, sealed(512), kNow));
  CHECK(stays.claim(42, small.id, out).good);
  CHECK(stays.keep(large, sealed(513), kNow));
  CHECK(stays.last_of(42) == large.id);
  UNSIGNED_LONGS_EQUAL(513, stays.claim(42, large.id, out).length);
}

TEST(stay_table, too_large_is_not_kept) {
  CHECK(!stays.keep(stay_of(42), std::vector<unsigned char>(kMaxSealedState + 1), kNow));
  CHECK(stays.keep(stay_of(43), sealed(kMaxSealedState), kNow));
}

// Those of clients that have left while they were parked.
TEST(stay_table, a_full_table_is_full_until_time_is_up) {
  std::uint64_t cookie = 1;
  while (stays.keep(stay_of(cookie), sealed(kMaxSealedState), kNow)) ++cookie;
  CHECK(cookie > 4'096);  // of 8,192
  UNSIGNED_LONGS_EQUAL(cookie - 1, stays.kept(kNow));
  CHECK(!stays.keep(stay_of(cookie), sealed(kMaxSealedState), kUntil));
  CHECK(stays.keep(stay_of(cookie), sealed(kMaxSealedState), kUntil + 1));
  UNSIGNED_LONGS_EQUAL(0, stays.kept(kUntil + 1));
}

TEST(stay_table, many_sockets_find_their_own) {
  for (std::uint64_t cookie = 1; cookie <= 16'384; ++cookie) {
    CHECK(stays.keep(stay_of(cookie), sealed(200, static_cast<unsigned char>(cookie)), kNow));
  }
  for (std::uint64_t cookie = 1; cookie <= 16'384; ++cookie) {
    CHECK(stays.claim(cookie, stay_of(cookie).id, out).good);
    CHECK(out[0] == static_cast<unsigned char>(cookie));
  }
}

TEST(stay_table, of_many_that_claim_at_once_one_gets_it) {
  constexpr int kRounds = 2'000;
  for (int round = 1; round <= kRounds; ++round) {
    const NewStay stay = stay_of(7, static_cast<std::uint64_t>(round));
    CHECK(stays.keep(stay, sealed(300), kNow));
    std::atomic<int> good{0};
    std::atomic<bool> go{false};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        std::array<unsigned char, kMaxSealedState> mine{};
        while (!go.load()) {
        }
        if (stays.claim(7, stay.id, mine).good) ++good;
      });
    }
    go.store(true);
    for (std::thread& thread : threads) thread.join();
    LONGS_EQUAL(1, good.load());
  }
}

TEST(stay_table, keys_change_when_nothing_needs_the_one_before) {
  SealKey first{};
  SealKey again{};
  SealKey second{};
  UNSIGNED_LONGS_EQUAL(0, stays.key_to_seal(first, kNow));  // there is none
  CHECK(stays.renew_key(kNow));
  UNSIGNED_LONGS_EQUAL(1, stays.key_to_seal(first, kNow));
  CHECK(stays.renew_key(kNow + Stays::kKeyTimeNs - 1));
  UNSIGNED_LONGS_EQUAL(1, stays.key_to_seal(again, kNow));
  CHECK(first == again);
  CHECK(stays.renew_key(kNow + Stays::kKeyTimeNs));
  UNSIGNED_LONGS_EQUAL(2, stays.key_to_seal(second, kNow));
  CHECK(first != second);
  CHECK(stays.key_of(1, again) && first == again);
  CHECK(stays.renew_key(kNow + 2 * Stays::kKeyTimeNs));
  CHECK(!stays.key_of(1, again));
  CHECK(stays.key_of(2, again) && second == again);
  CHECK(!stays.key_of(0, again));
  CHECK(!stays.key_of(4, again));
}

// GCM's random nonces: long before 2^32.
TEST(stay_table, a_key_seals_no_more_than_it_may) {
  SealKey key{};
  CHECK(stays.renew_key(kNow));
  auto& keys = static_cast<StayTable*>(memory)->keys;
  keys.seals.store(Stays::kSealsRenew);
  UNSIGNED_LONGS_EQUAL(1, stays.key_to_seal(key, kNow));  // the one before may still be of use
  UNSIGNED_LONGS_EQUAL(2, stays.key_to_seal(key, kNow + Stays::kKeyTimeNs));
  keys.seals.store(Stays::kSealsMost);
  UNSIGNED_LONGS_EQUAL(0, stays.key_to_seal(key, kNow + Stays::kKeyTimeNs));
}
