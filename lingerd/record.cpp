// SPDX-License-Identifier: Apache-2.0
#include "lingerd/record.h"

#include <cstring>

namespace lingerd {
namespace {

// What a record of any version begins with: magic, version, size.
constexpr std::size_t kHeadSize = offsetof(Record, kind);

bool good_duration(std::uint32_t ms) {
  return ms >= 1 && ms <= kMaxDurationMs;
}

}  // namespace

Record encode(const Handoff& handoff) {
  Record record;
  record.size = sizeof(Record);
  record.kind = handoff.kind;
  record.idle_ms = handoff.idle_ms;
  record.cap_ms = handoff.cap_ms;
  record.handed_off_ns = handoff.handed_off_ns;
  record.fallbacks = handoff.fallbacks;
  return record;
}

DecodeResult decode(std::span<const std::byte> bytes, Handoff& out) {
  if (bytes.size() < kHeadSize) return DecodeResult::kTruncated;
  Record record;
  std::memcpy(&record, bytes.data(), bytes.size() < sizeof record ? bytes.size() : sizeof record);
  if (record.magic != kRecordMagic) return DecodeResult::kWrongMagic;
  // The version goes before the size: a record of another version may well have another size.
  if (record.version < kRecordVersion) return DecodeResult::kOlderVersion;
  if (record.version > kRecordVersion) return DecodeResult::kFutureVersion;
  if (bytes.size() != sizeof record || record.size != sizeof record) {
    return DecodeResult::kWrongSize;
  }
  if (record.kind != RecordKind::kLinger) return DecodeResult::kUnknownKind;
  if (!good_duration(record.idle_ms) || !good_duration(record.cap_ms)) {
    return DecodeResult::kBadDuration;
  }
  out = {record.kind, record.idle_ms, record.cap_ms, record.handed_off_ns, record.fallbacks};
  return DecodeResult::kOk;
}

std::string_view describe(DecodeResult result) {
  switch (result) {
    case DecodeResult::kOk: return "a valid record";
    case DecodeResult::kTruncated: return "a truncated record";
    case DecodeResult::kWrongMagic: return "something that is no record";
    case DecodeResult::kOlderVersion: return "a record of an older version";
    case DecodeResult::kFutureVersion: return "a record of a newer version";
    case DecodeResult::kWrongSize: return "a record of the wrong size";
    case DecodeResult::kUnknownKind: return "a record of an unknown kind";
    case DecodeResult::kBadDuration: return "a record with a duration out of range";
  }
  return "something unknown";
}

GreetingResult decode_greeting(std::span<const std::byte> bytes) {
  Greeting greeting;
  if (bytes.size() < sizeof greeting) return GreetingResult::kGarbage;
  std::memcpy(&greeting, bytes.data(), sizeof greeting);
  if (greeting.magic != kGreetingMagic) return GreetingResult::kGarbage;
  if (greeting.version != kRecordVersion) return GreetingResult::kOtherVersion;
  switch (greeting.verdict) {
    case Verdict::kWelcome: return GreetingResult::kWelcome;
    case Verdict::kDenied: return GreetingResult::kDenied;
    case Verdict::kFull: return GreetingResult::kFull;
  }
  return GreetingResult::kGarbage;
}

}  // namespace lingerd
