// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/awaited.h"

#include <algorithm>

namespace lingerd {
namespace {

// Fills at_least if it hasn't come.
bool has_come(Awaited& awaited, const Arrived& arrived) {
  const AwaitedPart& what = awaited.what;
  switch (what.part) {
    case RequestPart::kHead:
      awaited.at_least = arrived.bytes + 1;
      awaited.head = scan_head(arrived.front, awaited.head);
      return awaited.head.state != HeadScan::State::kIncomplete;
    case RequestPart::kBytes: awaited.at_least = what.most; return arrived.bytes >= what.most;
    case RequestPart::kChunks: break;
  }
  const std::string_view front = arrived.front;
  const ChunkScan scan =
      scan_chunks(front.substr(std::min<std::size_t>(what.body_at, front.size())), awaited.chunks);
  awaited.chunks = scan;
  awaited.at_least = std::max(what.body_at + std::uint64_t{scan.at_least}, arrived.bytes + 1);
  return scan.state != ChunkScan::State::kIncomplete;
}

// More than it may be, or than there is room for: the kernel says "enough" before at_least.
bool is_too_much(const Awaited& awaited, const Arrived& arrived, std::uint64_t asked_for) {
  const bool full = arrived.readable && arrived.bytes < asked_for;
  const bool is_counted = awaited.what.part == RequestPart::kBytes;
  const std::uint64_t most =
      is_counted ? awaited.what.most : std::min<std::uint64_t>(awaited.what.most, kMostLookedAt);
  return full || (!is_counted && awaited.at_least > most);
}

}  // namespace

std::size_t Awaited::front_wanted() const {
  if (what.part == RequestPart::kBytes) return 0;
  return static_cast<std::size_t>(std::min<std::uint64_t>(what.most, kMostLookedAt));
}

MonoMillis Awaited::deadline() const {
  const MonoMillis grace = began + timeout_ms + 1;  // times are rounded down: never too early
  const MonoMillis end =
      is_body() && what.min_rate > 0 ? grace + bytes * 1'000 / what.min_rate : grace;
  const MonoMillis last = began + what.longest_s * std::uint64_t{1'000} + 1;
  return what.longest_s > 0 ? std::min(end, last) : end;
}

std::uint32_t Awaited::next_look_ms(MonoMillis now) const {
  const MonoMillis end = deadline();
  return end > now + kRateLookMs ? kRateLookMs : kLastLookMs;
}

bool Awaited::may_wait(MonoMillis now) const {
  return what.part != RequestPart::kBytes && bytes >= kLongLook && now < looked + kLongLookMs;
}

Judgement judge(Awaited& awaited, const Arrived& arrived, MonoMillis now) {
  const std::uint64_t asked_for = awaited.at_least;
  if (arrived.state == Arrived::State::kClosed) return Judgement::kClosed;
  awaited.looked = now;
  awaited.bytes = arrived.bytes;
  if (has_come(awaited, arrived)) return Judgement::kCame;
  if (arrived.state == Arrived::State::kFinished) {
    return arrived.bytes == 0 ? Judgement::kClosed : Judgement::kTooMuch;
  }
  if (is_too_much(awaited, arrived, asked_for)) return Judgement::kTooMuch;
  return now < awaited.deadline() ? Judgement::kMore : Judgement::kTimedOut;
}

}  // namespace lingerd
