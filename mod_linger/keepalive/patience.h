// SPDX-License-Identifier: Apache-2.0
// How long a worker waits itself before it parks a connection: what is known of the client's habit
// decides. Pure.
//
// A worker's 5 ms for each request would be most of its time. A connection that comes back from
// a longer stay doesn't get them; one that asked four times in a row within them gets 20, and
// 100 after 40 such requests, because a trip to lingerd costs more than a few requests. A wait
// that takes much longer than it should, on a machine with more to do than processors, is begun
// again: the client has had no chance. Up to there a worker makes the system calls that it would
// make without, so clients that don't think lose nothing.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace lingerd {

struct Habit {
  std::uint64_t last_stay_ms = 0;  // in lingerd, before the last request; 0: it wasn't there
  std::uint32_t quick = 0;         // requests in a row that came while the worker waited
};

struct Patience {
  std::uint32_t quick;
  std::uint32_t times;  // LingerKeepAliveAfter
};
inline constexpr std::array<Patience, 2> kPatience{{{40, 20}, {4, 4}}};
inline constexpr std::uint32_t kMostPatienceMs = 100;
inline constexpr std::uint32_t kLongStay = 4;  // times LingerKeepAliveAfter

// A client that has thought for long will do so again: waiting for it would keep a worker from
// others. One that asks and asks gets more patience: a trip to lingerd costs more than a few
// requests, and a busy machine makes every client look slow. It has earned it: shared among all the
// requests before, it is no more than a few milliseconds of a worker's time for each.
[[nodiscard]] constexpr std::uint32_t worth_waiting(const Habit& habit, std::uint32_t after_ms) {
  if (habit.last_stay_ms > std::uint64_t{kLongStay} * after_ms) return 0;
  for (const auto& [quick, times] : kPatience) {
    if (habit.quick >= quick)
      return std::max(after_ms, std::min(times * after_ms, kMostPatienceMs));
  }
  return after_ms;
}

// A stay counts once. After a short one half a burst will do: the client may be one that doesn't
// think, on a machine where it has to wait for a processor.
constexpr void note_stay(Habit& habit, std::uint32_t after_ms) {
  const bool was_there = habit.last_stay_ms > 0;
  if (was_there && habit.last_stay_ms <= std::uint64_t{kLongStay} * after_ms) {
    habit.quick = std::max(habit.quick, kPatience.back().quick / 2);
  }
  habit.last_stay_ms = 0;
}

}  // namespace lingerd
