// SPDX-License-Identifier: Apache-2.0
// Whatever a client sends, in whatever pieces: what has come once stays so when more comes, no end
// is beyond the bytes, and lingerd waits for nothing that it can't tell when it is there.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "contract/chunks.h"
#include "contract/record.h"
#include "contract/request_head.h"
#include "lingerd/core/awaited.h"
#include "mod_linger/request/missing.h"
#include "mod_linger/request/read_timeout.h"

namespace {

using namespace lingerd;

void must(bool holds) {
  if (!holds) std::abort();
}

void heads(std::string_view bytes, std::string_view prefix) {
  const HeadScan whole = scan_head(bytes);
  const HeadScan part = scan_head(prefix);
  const HeadScan on =
      scan_head(bytes, part.state == HeadScan::State::kIncomplete ? part : HeadScan{});
  must(on.state == whole.state && on.size == whole.size && on.begin == whole.begin);
  using State = HeadScan::State;
  must((whole.state == State::kComplete) == (whole.size > 0) && whole.size <= bytes.size());
  if (whole.state == State::kIncomplete) must(part.state == State::kIncomplete);
  if (whole.state == State::kComplete) {
    must((part.state == State::kComplete) == (prefix.size() >= whole.size));
    must(part.state != State::kComplete || part.size == whole.size);
    must(whole.begin < whole.size);
  }
  const Framing framing = framing_of(bytes);
  must(framing.body == Framing::Body::kLength || framing.length == 0 ||
       framing.body == Framing::Body::kOther);
}

void bodies(std::string_view bytes, std::string_view prefix) {
  const ChunkScan whole = scan_chunks(bytes);
  const ChunkScan part = scan_chunks(prefix);
  const ChunkScan on =
      scan_chunks(bytes, part.state == ChunkScan::State::kIncomplete ? part : ChunkScan{});
  must(on.state == whole.state && on.size == whole.size && on.at_least == whole.at_least);
  using State = ChunkScan::State;
  must(whole.state != State::kIncomplete || whole.at_least > bytes.size());
  if (whole.state == State::kIncomplete) must(part.state == State::kIncomplete);
  if (whole.state != State::kComplete) return;
  must(whole.size <= bytes.size());
  must((part.state == State::kComplete) == (prefix.size() >= whole.size));
  must(part.state != State::kIncomplete || part.at_least <= whole.size);
}

// What the module gives to lingerd, lingerd takes, waits for, and finds when it is there.
void waits(std::string_view bytes, std::string_view prefix, std::uint64_t unseen) {
  const RequestLimits limits{8'000, 5'000, 500, 60};
  const Missing missing = what_is_missing(prefix, prefix.size() + unseen, limits);
  must(missing.head <= prefix.size());
  if (!missing.part) return;
  Handoff handoff;
  handoff.kind = RecordKind::kRequest;
  handoff.idle_ms = handoff.cap_ms = handoff.stall_ms = 1'000;
  handoff.awaited = *missing.part;
  const Record record = encode(handoff);
  Handoff taken;
  must(decode(std::as_bytes(std::span(&record, 1)), taken) == DecodeResult::kOk);
  must(taken.awaited.most == missing.part->most && taken.awaited.part == missing.part->part);
  must(missing.at_least > prefix.size() + unseen);
  Awaited awaited;
  awaited.what = taken.awaited;
  awaited.timeout_ms = taken.stall_ms;
  const auto look = [](std::string_view there) {
    Arrived arrived;
    arrived.bytes = there.size();
    arrived.front = there.substr(0, kMostLookedAt);
    return arrived;
  };
  if (unseen == 0) must(judge(awaited, look(prefix), 1) == Judgement::kMore);
  const bool is_there = !what_is_missing(bytes, bytes.size(), limits).part;
  const bool head_only = awaited.what.part == RequestPart::kHead;
  const Judgement judgement = judge(awaited, look(bytes), 2);
  if (is_there) must(judgement != Judgement::kMore || head_only);
  if (judgement == Judgement::kMore) must(awaited.at_least > bytes.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 3, size - 3);
  const std::size_t cut = (data[0] << 8 | data[1]) % (bytes.size() + 1);
  const std::string_view prefix = bytes.substr(0, cut);
  heads(bytes, prefix);
  bodies(bytes, prefix);
  waits(bytes, prefix, data[2] < 200 ? 0 : data[2]);
  ReadTimeout timeout = parse_read_timeout(bytes);
  timeout.tighten(parse_read_timeout(prefix));
  return 0;
}
