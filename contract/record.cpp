// SPDX-License-Identifier: Apache-2.0
#include "contract/record.h"

#include <cstring>

namespace lingerd {
namespace {

// What a record of any version begins with: magic, version, size.
constexpr std::size_t kHeadSize = offsetof(Record, kind);

bool good_duration(std::uint32_t ms) {
  return ms >= 1 && ms <= kMaxDurationMs;
}

bool good_content(const Record& record) {
  return record.content_length != 0 && record.content_length <= kMaxContent &&
         record.content_offset <= kMaxContent;
}

// Those that its kind has, and no others.
DecodeResult decode_fields(const Record& record, Handoff& out) {
  const std::size_t index = index_of(record.kind);
  if (index == kRecordForms.size()) return DecodeResult::kUnknownKind;
  const RecordForm& form = kRecordForms[index];
  if (form.lingers && !(good_duration(record.idle_ms) && good_duration(record.cap_ms))) {
    return DecodeResult::kBadDuration;
  }
  if (form.stalls && !good_duration(record.stall_ms)) return DecodeResult::kBadDuration;
  if (form.content && !good_content(record)) return DecodeResult::kBadContent;
  out = {.kind = record.kind};
  if (form.lingers) {
    out.idle_ms = record.idle_ms;
    out.cap_ms = record.cap_ms;
    out.handed_off_ns = record.handed_off_ns;
    out.fallbacks = record.fallbacks;
  }
  if (form.content) {
    out.content_offset = record.content_offset;
    out.content_length = record.content_length;
  }
  if (form.stalls) out.stall_ms = record.stall_ms;
  if (form.keepalives) {
    out.keepalives = record.keepalives;
    out.over_tls = (record.flags & kOverTls) != 0;
  }
  if (form.ticket) out.ticket = record.ticket;
  return DecodeResult::kOk;
}

}  // namespace

Record encode(const Handoff& handoff) {
  Record record;
  record.size = sizeof(Record);
  record.kind = handoff.kind;
  record.flags = handoff.over_tls ? kOverTls : 0;
  record.idle_ms = handoff.idle_ms;
  record.cap_ms = handoff.cap_ms;
  record.handed_off_ns = handoff.handed_off_ns;
  record.content_offset = handoff.content_offset;
  record.content_length = handoff.content_length;
  record.stall_ms = handoff.stall_ms;
  record.keepalives = handoff.keepalives;
  record.ticket = handoff.ticket;
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
  return decode_fields(record, out);
}

ReturnRecord encode(const Return& back) {
  ReturnRecord record;
  record.size = sizeof record;
  record.keepalives = back.keepalives;
  record.keepalive_ms = back.keepalive_ms;
  record.parked_ns = back.parked_ns;
  record.tag = back.tag;
  return record;
}

bool decode(std::span<const std::byte> bytes, Return& out) {
  ReturnRecord record;
  if (bytes.size() != sizeof record) return false;
  std::memcpy(&record, bytes.data(), sizeof record);
  if (record.magic != kReturnMagic || record.version != kRecordVersion ||
      record.size != sizeof record || !good_duration(record.keepalive_ms)) {
    return false;
  }
  out = {record.keepalives, record.keepalive_ms, record.parked_ns, record.tag};
  return true;
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
    case DecodeResult::kBadContent: return "a record with an impossible content";
  }
  return "something unknown";
}

GreetingResult decode_greeting(std::span<const std::byte> bytes, std::uint64_t& kinds) {
  Greeting greeting;
  if (bytes.size() < sizeof greeting) return GreetingResult::kGarbage;
  std::memcpy(&greeting, bytes.data(), sizeof greeting);
  if (greeting.magic != kGreetingMagic) return GreetingResult::kGarbage;
  if (greeting.version != kRecordVersion) return GreetingResult::kOtherVersion;
  switch (greeting.verdict) {
    case Verdict::kWelcome: kinds = greeting.kinds; return GreetingResult::kWelcome;
    case Verdict::kDenied: return GreetingResult::kDenied;
    case Verdict::kFull: return GreetingResult::kFull;
  }
  return GreetingResult::kGarbage;
}

bool decode_answer(std::span<const std::byte> bytes, Answer& out) {
  Answer answer;
  if (bytes.size() != sizeof answer) return false;
  std::memcpy(&answer, bytes.data(), sizeof answer);
  if (answer.magic != kAnswerMagic || answer.version != kRecordVersion) return false;
  if (answer.acceptance > Acceptance::kDenied) return false;
  out = answer;
  return true;
}

}  // namespace lingerd
