// SPDX-License-Identifier: Apache-2.0
// The record: one SOCK_SEQPACKET message from an httpd child to lingerd, fixed in size, which
// carries exactly one descriptor in SCM_RIGHTS; and the greeting that lingerd answers a connection
// with. Both ends run on one kernel, so integers are in host byte order and times are
// CLOCK_MONOTONIC. Pure: no system call, no httpd.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace lingerd {

inline constexpr std::uint32_t kRecordMagic = 0x4c4e4752;    // "LNGR"
inline constexpr std::uint32_t kGreetingMagic = 0x4c4e4759;  // "LNGY"
inline constexpr std::uint16_t kRecordVersion = 1;

// What the peer asks for. Kinds to come (a response's remainder, an idle keep-alive connection) use
// the reserved words of the record; a daemon refuses a kind that it doesn't know.
enum class RecordKind : std::uint16_t {
  kLinger = 1,  // the FIN has been sent: drain until the client closes
};

// Both durations, in milliseconds: 1 to kMaxDurationMs. lingerd cuts them down to its --max-time.
inline constexpr std::uint32_t kMaxDurationMs = 3'600'000;

// As it travels. `reserved` is zero in version 1.
struct Record {
  std::uint32_t magic = kRecordMagic;
  std::uint16_t version = kRecordVersion;
  std::uint16_t size = 0;
  RecordKind kind = RecordKind::kLinger;
  std::uint16_t flags = 0;
  std::uint32_t idle_ms = 0;        // LingerTimeout
  std::uint32_t cap_ms = 0;         // LingerTime
  std::uint32_t fallbacks = 0;      // that lingerd doesn't know of yet
  std::uint64_t handed_off_ns = 0;  // CLOCK_MONOTONIC at the FIN
  std::array<std::uint64_t, 4> reserved{};
};
static_assert(sizeof(Record) == 64, "the record's size is part of the contract");
static_assert(offsetof(Record, handed_off_ns) == 24);

// What a valid record says.
struct Handoff {
  RecordKind kind = RecordKind::kLinger;
  std::uint32_t idle_ms = 0;
  std::uint32_t cap_ms = 0;
  std::uint64_t handed_off_ns = 0;
  std::uint32_t fallbacks = 0;
};

enum class DecodeResult {
  kOk,
  kTruncated,      // shorter than the fixed head that every version has
  kWrongMagic,     // not a record of ours
  kOlderVersion,   // a module older than this daemon
  kFutureVersion,  // a module newer than this daemon
  kWrongSize,      // the message's length, or the length that it states, isn't the version's
  kUnknownKind,
  kBadDuration,  // zero or over kMaxDurationMs
};

[[nodiscard]] Record encode(const Handoff& handoff);

// Fills `out` only on kOk. Reads `bytes` whatever its length and alignment.
[[nodiscard]] DecodeResult decode(std::span<const std::byte> bytes, Handoff& out);

// In words, for a log line: "a record of a newer version".
[[nodiscard]] std::string_view describe(DecodeResult result);

// lingerd's first and only message on a connection. A module hands nothing over before it has read
// kWelcome, so that a refused peer loses no client.
enum class Verdict : std::uint16_t {
  kWelcome = 0,
  kDenied = 1,  // --allow-user doesn't name this peer
  kFull = 2,    // too many connections to the intake
};

struct Greeting {
  std::uint32_t magic = kGreetingMagic;
  std::uint16_t version = kRecordVersion;  // of the records that this lingerd takes
  Verdict verdict = Verdict::kWelcome;
  std::uint64_t reserved = 0;
};
static_assert(sizeof(Greeting) == 16, "the greeting's size is part of the contract");

enum class GreetingResult { kWelcome, kDenied, kFull, kOtherVersion, kGarbage };

[[nodiscard]] GreetingResult decode_greeting(std::span<const std::byte> bytes);

}  // namespace lingerd
