// SPDX-License-Identifier: Apache-2.0
// What happens in a closer's process (closer.h). It shares lingerd's descriptor table but not its
// memory, of which it has a copy from the moment of its birth: all that the two say to each other
// is in the pipe and in a card of shared memory.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <csignal>
#include <cstdint>

namespace lingerd {

enum class CloserState : std::uint32_t {
  kIdle,
  kClosing,     // in close(2), since `since_ns`
  kLeftBehind,  // set by lingerd, while it is closing: to read no further number
};

// One word, so that a closer that is killed leaves no doubt: what isn't counted isn't closed, but
// for the one that it has in hand.
struct alignas(8) CloserCard {
  CloserState state = CloserState::kIdle;
  std::uint32_t closed = 0;  // how many so far; begins again at 2^32
  bool operator==(const CloserCard&) const = default;
};

struct CloserSlot {
  std::atomic<CloserCard> card{};
  std::atomic<std::uint64_t> since_ns = 0;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<CloserCard>::is_always_lock_free);

// Asks it to close every socket of its table and to end. Its parent's death is the same.
inline constexpr int kCloserEnds = SIGALRM;

[[noreturn]] void run_closer(CloserSlot& slot, int pipe, pid_t parent);

// With SO_LINGER set, close() waits for the client.
void close_without_linger(int fd);

}  // namespace lingerd
