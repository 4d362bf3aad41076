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

void put_awaited(const AwaitedPart& awaited, Record& record) {
  record.flags = static_cast<std::uint16_t>(static_cast<unsigned>(awaited.part) |
                                            static_cast<unsigned>(awaited.longest_s) << 2);
  record.content_offset = std::uint64_t{awaited.min_rate} << 32 | awaited.body_at;
  record.content_length = awaited.most;
}

bool take_awaited(const Record& record, AwaitedPart& out) {
  const auto part = static_cast<RequestPart>(record.flags & 3);
  if (part < RequestPart::kHead || part > RequestPart::kChunks) return false;
  out.part = part;
  out.body_at = static_cast<std::uint32_t>(record.content_offset);
  out.min_rate = static_cast<std::uint32_t>(record.content_offset >> 32);
  out.most = record.content_length;
  out.longest_s = record.flags >> 2;
  const bool is_body = part != RequestPart::kHead;
  return out.most > 0 && out.most <= kMaxContent && (out.body_at > 0) == is_body &&
         (out.min_rate > 0) == is_body && out.most >= out.body_at;
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
  AwaitedPart awaited;
  if (form.content && !good_content(record)) return DecodeResult::kBadContent;
  if (form.awaits && !take_awaited(record, awaited)) return DecodeResult::kBadContent;
  out = {.kind = record.kind};
  out.awaited = awaited;
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
  if (form.keepalives) out.keepalives = record.keepalives;
  if (form.over_tls) out.over_tls = (record.flags & kOverTls) != 0;
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
  if (handoff.kind == RecordKind::kRequest) put_awaited(handoff.awaited, record);
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

GatheredRecord encode_gathered(const Return& back) {
  GatheredRecord record;
  record.back = encode(back);
  record.back.magic = kGatheredMagic;
  record.back.size = sizeof record;
  record.waited_for = back.waited_for;
  record.outcome = back.outcome;
  return record;
}

bool decode(std::span<const std::byte> bytes, Return& out) {
  GatheredRecord record;
  const bool gathered = bytes.size() == sizeof record;
  if (!gathered && bytes.size() != sizeof record.back) return false;
  record.waited_for = WaitedFor::kNextRequest;
  std::memcpy(&record, bytes.data(), bytes.size());
  const ReturnRecord& back = record.back;
  if (back.magic != (gathered ? kGatheredMagic : kReturnMagic) || back.version != kRecordVersion ||
      back.size != bytes.size() || !good_duration(back.keepalive_ms)) {
    return false;
  }
  if (gathered && (record.waited_for < WaitedFor::kHead || record.waited_for > WaitedFor::kBody ||
                   record.outcome > Outcome::kEarly)) {
    return false;
  }
  out = {back.keepalives, back.keepalive_ms, back.parked_ns,
         back.tag,        record.waited_for, record.outcome};
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
