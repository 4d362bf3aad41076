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
    if (handoff.kind != RecordKind::kLinger) std::abort();
    if (handoff.idle_ms < 1 || handoff.idle_ms > kMaxDurationMs) std::abort();
    if (handoff.cap_ms < 1 || handoff.cap_ms > kMaxDurationMs) std::abort();
  }
  (void)decode_greeting(bytes);
  return 0;
}
