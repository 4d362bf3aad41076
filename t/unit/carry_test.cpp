// SPDX-License-Identifier: Apache-2.0
// What one lingerd leaves to the next: all of it comes back, and nothing else is taken for it.
#include "lingerd/core/carry.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/delivery.h"
#include "lingerd/core/drain.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;  // NOLINT: a test

namespace {

constexpr std::uint64_t kNowMs = 5'000'000;

CarriedState state_of(std::size_t sockets) {
  CarriedState state;
  state.started_ns = 42;
  for (std::size_t i = 0; i < kDaemonCounters; ++i) state.counters.array()[i] = 100 + i;
  for (std::size_t i = 0; i < sockets; ++i) {
    CarriedSocket socket;
    socket.linger.started = kNowMs - 10 * i;
    socket.linger.patience = {.idle_ms = 5'000, .unsent = static_cast<std::uint32_t>(i)};
    socket.cap = {.deadline = socket.linger.started + 30'000, .duration_ms = 30'000};
    socket.idle = {.deadline = kNowMs + 1'000, .duration_ms = 1'250};
    state.sockets.push_back(socket);
  }
  return state;
}

Delivery delivery() {
  return {.content = {.id = 7, .offset = 1, .left = 100, .memory = 4'096},
          .idle_ms = 5'000,
          .cap_ms = 30'000,
          .window_left = 100,
          .patience = {.idle_ms = 60'000, .fin = kNoFinYet}};
}

CarryResult result_of(const std::vector<std::byte>& bytes) {
  CarriedState out;
  out.started_ns = 7;
  const CarryResult result = decode(bytes, kNowMs, out);
  // Untouched unless it is fine.
  CHECK(result == CarryResult::kOk || (out.started_ns == 7 && out.sockets.empty()));
  return result;
}

CarryResult result_with(void (*change)(CarriedSocket&)) {
  CarriedState state = state_of(3);
  change(state.sockets[1]);
  return result_of(encode(state));
}

}  // namespace

TEST_GROUP(Carry){};

TEST(Carry, everything_comes_back) {
  for (const std::size_t sockets : {0, 1, 5'000}) {
    const CarriedState state = state_of(sockets);
    CarriedState back;
    CHECK(decode(encode(state), kNowMs, back) == CarryResult::kOk);
    LONGS_EQUAL(42, back.started_ns);
    CHECK(back.counters.array() == state.counters.array());
    LONGS_EQUAL(sockets, back.sockets.size());
    CHECK(encode(back) == encode(state));
  }
}

// After the magic number come the version and the size of a socket's state.
TEST(Carry, another_version_is_never_misread) {
  for (const std::size_t at : {sizeof kCarryMagic, sizeof kCarryMagic + sizeof kCarryVersion}) {
    for (const int by : {-1, 1}) {
      std::vector<std::byte> bytes = encode(state_of(3));
      std::uint32_t word = 0;
      std::memcpy(&word, bytes.data() + at, sizeof word);
      word += static_cast<std::uint32_t>(by);
      std::memcpy(bytes.data() + at, &word, sizeof word);
      CHECK(result_of(bytes) == CarryResult::kOtherVersion);
    }
  }
}

TEST(Carry, what_is_cut_off_or_longer_is_garbage) {
  const std::vector<std::byte> whole = encode(state_of(2));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CHECK(result_of({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)}) ==
          CarryResult::kGarbage);
  }
  std::vector<std::byte> longer = whole;
  longer.resize(whole.size() + 1);
  CHECK(result_of(longer) == CarryResult::kGarbage);
  longer.resize(whole.size() + sizeof(CarriedSocket));  // as if there were a third
  CHECK(result_of(longer) == CarryResult::kGarbage);
  std::vector<std::byte> other = whole;
  other[0] ^= std::byte{1};
  CHECK(result_of(other) == CarryResult::kGarbage);
}

TEST(Carry, values_that_no_linger_has_are_garbage) {
  CHECK(result_with([](CarriedSocket&) {}) == CarryResult::kOk);
  CHECK(result_with([](CarriedSocket& s) { s.delivery = delivery(); }) == CarryResult::kOk);
  // The most that a record may say, nearly delivered.
  CHECK(result_with([](CarriedSocket& s) {
          s.delivery = delivery();
          s.delivery.content.offset = 2 * kMaxContent - s.delivery.content.left;
        }) == CarryResult::kOk);
  constexpr void (*kWrong[])(CarriedSocket&) = {
      [](CarriedSocket& s) { s.cap.duration_ms = 0; },
      [](CarriedSocket& s) { s.cap.duration_ms = kMaxDurationMs + 1; },
      [](CarriedSocket& s) { s.linger.patience.idle_ms = 0; },
      [](CarriedSocket& s) { s.linger.patience.idle_ms = kMaxDurationMs + 1; },
      [](CarriedSocket& s) { s.linger.patience.fin = kOnlyFin + 1; },
      [](CarriedSocket& s) { s.idle.duration_ms = 0; },
      [](CarriedSocket& s) { s.linger.started = kNowMs + 1; },
      [](CarriedSocket& s) { s.cap.deadline = kNowMs + kMaxDurationMs + 1; },
      [](CarriedSocket& s) { s.idle.deadline = kNowMs + kMaxDurationMs + 1; },
      [](CarriedSocket& s) { s.cap.deadline = s.cap.duration_ms - 1; },
      [](CarriedSocket& s) { s.idle.deadline = s.idle.duration_ms - 1; },
      [](CarriedSocket& s) {
        s.delivery = delivery();
        s.delivery.idle_ms = 0;
      },
      [](CarriedSocket& s) {
        s.delivery = delivery();
        s.delivery.cap_ms = kMaxDurationMs + 1;
      },
      [](CarriedSocket& s) {
        s.delivery = delivery();
        s.delivery.patience.idle_ms = 0;
      },
      [](CarriedSocket& s) {
        s.delivery = delivery();
        s.delivery.patience.fin = kOnlyFin + 1;
      },
      [](CarriedSocket& s) {
        s.delivery = delivery();
        s.delivery.content.left = kMaxContent + 1;
      },
      [](CarriedSocket& s) {
        s.delivery = delivery();
        s.delivery.content.offset = 2 * kMaxContent - s.delivery.content.left + 1;
      },
      [](CarriedSocket& s) {
        s.delivery = delivery();
        s.delivery.content.memory = kMaxContent + 1;
      },
      [](CarriedSocket& s) {
        s.delivery = delivery();
        s.delivery.window_left = 0;
      },
  };
  for (const auto& change : kWrong) CHECK(result_with(change) == CarryResult::kGarbage);
}
