// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/request/missing.h"

#include <algorithm>

#include "contract/chunks.h"
#include "contract/request_head.h"

namespace lingerd {
namespace {

void judge_chunks(std::string_view front, std::uint64_t there, const RequestLimits& limits,
                  Missing& missing) {
  const ChunkScan scan = scan_chunks(front.substr(missing.head));
  // More than the look has seen: lingerd looks further.
  if (scan.state != ChunkScan::State::kIncomplete) return;
  if (there - missing.head >= limits.body || scan.at_least > limits.body) return;
  missing.part = AwaitedPart{RequestPart::kChunks, static_cast<std::uint32_t>(missing.head),
                             limits.min_rate, missing.head + limits.body, limits.longest_s};
  missing.at_least = std::max(missing.head + std::uint64_t{scan.at_least}, there + 1);
}

}  // namespace

Missing what_is_missing(std::string_view front, std::uint64_t there, const RequestLimits& limits) {
  Missing missing;
  const HeadScan scan = scan_head(front);
  if (scan.state == HeadScan::State::kIncomplete && there < limits.head) {
    missing.part = AwaitedPart{RequestPart::kHead, 0, 0, limits.head, 0};
    missing.at_least = there + 1;
  }
  if (scan.state != HeadScan::State::kComplete) return missing;
  missing.head = scan.size;
  const Framing framing = framing_of(front.substr(scan.begin, scan.size - scan.begin));
  if (limits.body == 0) return missing;
  if (framing.body == Framing::Body::kChunked) judge_chunks(front, there, limits, missing);
  const std::uint64_t all = scan.size + framing.length;
  if (framing.body != Framing::Body::kLength || framing.length > limits.body || there >= all) {
    return missing;
  }
  missing.part = AwaitedPart{RequestPart::kBytes, static_cast<std::uint32_t>(scan.size),
                             limits.min_rate, all, limits.longest_s};
  missing.at_least = all;
  return missing;
}

}  // namespace lingerd
