// SPDX-License-Identifier: Apache-2.0
// Whatever a peer sends: decoded within its bytes, and only to what lingerd can act on.
#include "lingerd/record.h"

#include <cstdlib>
#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lingerd;
  const auto bytes = std::as_bytes(std::span(data, size));
  Handoff handoff;
  const DecodeResult result = decode(bytes, handoff);
  if (describe(result).empty()) std::abort();
  if (result == DecodeResult::kOk) {
    if ((bit_of(handoff.kind) & kAllKinds) == 0) std::abort();
  }
  if (result == DecodeResult::kOk && handoff.kind != RecordKind::kBegin) {
    if (handoff.idle_ms < 1 || handoff.idle_ms > kMaxDurationMs) std::abort();
    if (handoff.cap_ms < 1 || handoff.cap_ms > kMaxDurationMs) std::abort();
    const bool delivers = handoff.kind == RecordKind::kDeliver;
    if (delivers != (handoff.content_length > 0)) std::abort();
    if (delivers && (handoff.stall_ms < 1 || handoff.stall_ms > kMaxDurationMs)) std::abort();
    if (handoff.content_length > kMaxContent || handoff.content_offset > kMaxContent) std::abort();
  }
  std::uint64_t kinds = 0;
  (void)decode_greeting(bytes, kinds);
  Answer answer;
  if (decode_answer(bytes, answer) && answer.acceptance > Acceptance::kUnfit) std::abort();
  return 0;
}
