// SPDX-License-Identifier: Apache-2.0
// A request that is still coming: whether what is waited for has come, when to look again, and how
// long its client has. All that counts is how many bytes lie in the socket, and for a head or for
// chunks what they are; nothing is taken out. Pure: the time is an argument.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "contract/chunks.h"
#include "contract/record.h"
#include "contract/request_head.h"
#include "lingerd/core/deadlines.h"

namespace lingerd {

// A head or chunks that are longer aren't looked at.
inline constexpr std::size_t kMostLookedAt = std::size_t{2} << 20;
// From here on a look, which copies what there is, isn't worth each segment.
inline constexpr std::size_t kLongLook = std::size_t{64} << 10;
inline constexpr std::uint32_t kLongLookMs = 100;
// A body is looked at that often, to know how fast it comes, and what memory it takes.
inline constexpr std::uint32_t kRateLookMs = 1'000;
inline constexpr std::uint32_t kLastLookMs = 250;

// What a look at the socket has found.
struct Arrived {
  enum class State {
    kOpen,
    kFinished,  // no more can be waited for: the client's FIN, or urgent data, which stands in the
                // way
    kClosed,    // RST
  };
  State state = State::kOpen;
  bool readable = false;  // as the kernel has it: as many as await() has said, or all that fits
  std::uint64_t bytes = 0;
  std::string_view front;  // the first of them, as many as were asked for
};

struct Awaited {
  AwaitedPart what;
  std::uint32_t timeout_ms = 0;  // LingerRequestTimeout
  MonoMillis began = 0;          // in httpd
  MonoMillis looked = 0;         // last
  std::uint64_t bytes = 0;       // that were there
  std::uint64_t at_least = 1;    // bytes that the kernel reports the socket for
  HeadScan head;                 // as far as looks have seen it
  ChunkScan chunks;

  [[nodiscard]] bool is_body() const { return what.part != RequestPart::kHead; }
  // How much of it has to be seen.
  [[nodiscard]] std::size_t front_wanted() const;
  // By when it has to be there: LingerRequestTimeout for a head; for a body that, and as long as
  // what is there takes at LingerRequestMinRate.
  [[nodiscard]] MonoMillis deadline() const;
  // When to look at it next if the kernel doesn't report it before: one of a few durations, from
  // `now` on. A head needs only one look, at its deadline.
  [[nodiscard]] std::uint32_t next_look_ms(MonoMillis now) const;
  // The kernel has reported it so soon after the last look that this one can wait.
  [[nodiscard]] bool may_wait(MonoMillis now) const;
};

enum class Judgement {
  kMore,  // wait on; at_least says for what
  kCame,
  kTimedOut,
  kTooMuch,  // no more can come, or may
  kClosed,   // nobody is there any more
};
// After a look.
[[nodiscard]] Judgement judge(Awaited& awaited, const Arrived& arrived, MonoMillis now);

}  // namespace lingerd
