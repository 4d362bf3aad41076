// SPDX-License-Identifier: Apache-2.0
// The record: one SOCK_SEQPACKET message from an httpd child to lingerd, fixed in size, with the
// descriptors that its kind asks for in SCM_RIGHTS; and what lingerd says to a child: a greeting
// for a connection, an answer to an offer. Both ends run on one kernel, so integers are in host
// byte order and times are CLOCK_MONOTONIC. Pure: no system call, no httpd.
//
// SEQPACKET, and a connection for each child: with batches that is twice as fast as one datagram
// socket for all, and net.unix.max_dgram_qlen doesn't bound it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace lingerd {

inline constexpr std::uint32_t kRecordMagic = 0x4c4e4752;    // "LNGR"
inline constexpr std::uint32_t kGreetingMagic = 0x4c4e4759;  // "LNGY"
inline constexpr std::uint32_t kAnswerMagic = 0x4c4e4741;    // "LNGA"
inline constexpr std::uint16_t kRecordVersion = 1;

inline constexpr std::uint32_t kReturnMagic = 0x4c4e4742;    // "LNGB"
inline constexpr std::uint32_t kGatheredMagic = 0x4c4e4753;  // "LNGS"

// What the peer asks for. A daemon refuses a kind that it doesn't know.
//
// A linger that gets lost on its way costs a client nothing that it hasn't got. The rest of a
// response is another matter: so a delivery is offered first, and lingerd says whether it has room,
// and whether both descriptors have arrived and are fit for use. Only then it is begun, by a
// message of its own. Until that has been sent the response is the peer's, and lingerd doesn't
// touch it.
enum class RecordKind : std::uint16_t {
  kLinger = 1,   // one descriptor. The FIN has been sent: drain until the client closes
  kDeliver = 2,  // two: the socket, and what holds the rest of the response. An offer
  kIdle = 4,     // two: a keep-alive connection with nothing to read, and what names the way back
                 // (O_PATH). Hold it until its next request, and send it there with its tag (not
                 // 3: a daemon that knows that kind only would lose the tag)
  kWayBack = 5,  // one: what names the way back, before the first connection is parked with it. An
                 // offer: lingerd tries it, and answers
  kRequest = 6,  // two: a connection whose request is still coming, and what names the way back.
                 // Hold it until what the record names is there to be read, and send it there
                 // unread, with its tag
  kBegin = 32,   // none. The offer of this ticket is lingerd's: send it, then the FIN, then drain
};

// Record::flags. kIdle: the connection speaks TLS, so that its client says goodbye in records.
inline constexpr std::uint16_t kOverTls = 1;

// Both durations, in milliseconds: 1 to kMaxDurationMs. lingerd cuts them down to its --max-time.
inline constexpr std::uint32_t kMaxDurationMs = 3'600'000;

// What of a request is waited for. All of it stays in the socket: lingerd looks, and takes nothing.
enum class RequestPart : std::uint16_t {
  kHead = 1,    // the empty line behind it
  kBytes = 2,   // as many bytes as are named: head and body, by Content-Length
  kChunks = 3,  // the last chunk of a body that begins where it is named, and its trailers
};

// As it travels. What a kind doesn't use is zero.
struct Record {
  std::uint32_t magic = kRecordMagic;
  std::uint16_t version = kRecordVersion;
  std::uint16_t size = 0;
  RecordKind kind = RecordKind::kLinger;
  std::uint16_t flags = 0;           // kIdle: kOverTls. kRequest: RequestPart, and
                                     // AwaitedPart::longest_s above its two bits
  std::uint32_t idle_ms = 0;         // LingerTimeout
  std::uint32_t cap_ms = 0;          // LingerTime
  std::uint32_t fallbacks = 0;       // that lingerd doesn't know of yet
  std::uint64_t handed_off_ns = 0;   // CLOCK_MONOTONIC at the FIN
  std::uint64_t content_offset = 0;  // kDeliver: where in the second descriptor the rest begins,
  std::uint64_t content_length = 0;  // and how long it is. kRequest: the first has where the body
                                     // begins in its lower half, LingerRequestMinRate in its
                                     // upper; the second how much is waited for at most
  std::uint32_t stall_ms = 0;        // kDeliver: no progress for that long ends it;
                                     // kIdle: KeepAliveTimeout, since handed_off_ns;
                                     // kRequest: LingerRequestTimeout, likewise
  std::uint32_t keepalives = 0;      // kIdle, kRequest: requests that the connection has had
  std::uint64_t ticket = 0;          // kDeliver, kBegin, kWayBack: which offer; the peer's own;
                                     // kIdle, kRequest: ReturnRecord::tag
};
static_assert(sizeof(Record) == 64, "the record's size is part of the contract");
static_assert(offsetof(Record, handed_off_ns) == 24);

// kRequest: what is waited for.
struct AwaitedPart {
  RequestPart part = RequestPart::kHead;
  std::uint32_t body_at = 0;    // where the body begins, from the first byte of the head
  std::uint32_t min_rate = 0;   // LingerRequestMinRate, of a body
  std::uint64_t most = 0;       // bytes from the head's first one: kBytes so many, else at most
  std::uint16_t longest_s = 0;  // for all of it, at any rate; 0: as long as the rate is kept up
};
inline constexpr std::uint16_t kMostLongestS = 0x3fff;

// What a valid record says.
struct Handoff {
  RecordKind kind = RecordKind::kLinger;
  std::uint32_t idle_ms = 0;
  std::uint32_t cap_ms = 0;
  std::uint64_t handed_off_ns = 0;
  std::uint64_t content_offset = 0;
  std::uint64_t content_length = 0;
  std::uint32_t stall_ms = 0;
  std::uint32_t keepalives = 0;
  std::uint64_t ticket = 0;  // kIdle, kRequest: the tag
  bool over_tls = false;     // kIdle
  AwaitedPart awaited{};     // kRequest
  std::uint32_t fallbacks = 0;
  std::uint32_t user = 0;  // of the peer: lingerd asks the kernel, no record says it
};

// Fallbacks that a record is believed to report: what an httpd sees in a quarter of an hour without
// a lingerd, at a thousand connections a second.
inline constexpr std::uint32_t kMostReported = 1'000'000;

// A content's offset and length: no response is larger.
inline constexpr std::uint64_t kMaxContent = std::uint64_t{1} << 50;

enum class DecodeResult {
  kOk,
  kTruncated,      // shorter than the fixed head that every version has
  kWrongMagic,     // not a record of ours
  kOlderVersion,   // a module older than this daemon
  kFutureVersion,  // a module newer than this daemon
  kWrongSize,      // the message's length, or the length that it states, isn't the version's
  kUnknownKind,
  kBadDuration,  // zero or over kMaxDurationMs
  kBadContent,   // nothing to deliver or to wait for, or more than kMaxContent
};

[[nodiscard]] Record encode(const Handoff& handoff);

// Fills `out` only on kOk. Reads `bytes` whatever its length and alignment.
[[nodiscard]] DecodeResult decode(std::span<const std::byte> bytes, Handoff& out);

// In words, for a log line: "a record of a newer version".
[[nodiscard]] std::string_view describe(DecodeResult result);

// The first message that lingerd sends on a connection; answers to offers follow. connect(2) to a
// Unix socket succeeds while nothing has accepted, and a record sent then is lost if the answer is
// no. So a module hands nothing over before it has read kWelcome, and a refused peer loses no
// client.
enum class Verdict : std::uint16_t {
  kWelcome = 0,
  kDenied = 1,  // --allow-user doesn't name this peer
  kFull = 2,    // too many connections to the intake
};

struct Greeting {
  std::uint32_t magic = kGreetingMagic;
  std::uint16_t version = kRecordVersion;  // of the records that this lingerd takes
  Verdict verdict = Verdict::kWelcome;
  std::uint64_t kinds = 0;  // bit N: takes records of kind N
};
static_assert(sizeof(Greeting) == 16, "the greeting's size is part of the contract");

enum class GreetingResult { kWelcome, kDenied, kFull, kOtherVersion, kGarbage };

// Fills `kinds` only on kWelcome.
[[nodiscard]] GreetingResult decode_greeting(std::span<const std::byte> bytes,
                                             std::uint64_t& kinds);

[[nodiscard]] constexpr std::uint64_t bit_of(RecordKind kind) {
  return std::uint64_t{1} << static_cast<unsigned>(kind);
}
// What a record of each kind brings. What it doesn't is zero, and isn't looked at.
struct RecordForm {
  RecordKind kind = RecordKind::kLinger;
  std::size_t descriptors = 0;
  bool lingers = false;     // idle_ms, cap_ms, handed_off_ns, fallbacks
  bool stalls = false;      // stall_ms
  bool content = false;     // content_offset, content_length
  bool keepalives = false;  // keepalives
  bool over_tls = false;    // flags: kOverTls
  bool awaits = false;      // flags, content_offset, content_length as AwaitedPart
  bool ticket = true;       // ticket
};
inline constexpr std::array kRecordForms{
    RecordForm{.kind = RecordKind::kLinger, .descriptors = 1, .lingers = true, .ticket = false},
    RecordForm{.kind = RecordKind::kDeliver,
               .descriptors = 2,
               .lingers = true,
               .stalls = true,
               .content = true},
    RecordForm{.kind = RecordKind::kIdle,
               .descriptors = 2,
               .lingers = true,
               .stalls = true,
               .keepalives = true,
               .over_tls = true},
    RecordForm{.kind = RecordKind::kWayBack, .descriptors = 1},
    RecordForm{.kind = RecordKind::kRequest,
               .descriptors = 2,
               .lingers = true,
               .stalls = true,
               .keepalives = true,
               .awaits = true},
    RecordForm{.kind = RecordKind::kBegin},
};

// Its place in kRecordForms, and in each table that follows it; kRecordForms.size(): no such kind.
[[nodiscard]] constexpr std::size_t index_of(RecordKind kind) {
  std::size_t index = 0;
  while (index < kRecordForms.size() && kRecordForms[index].kind != kind) ++index;
  return index;
}

inline constexpr std::uint64_t kAllKinds = [] {
  std::uint64_t bits = 0;
  for (const RecordForm& form : kRecordForms) bits |= bit_of(form.kind);
  return bits;
}();

// What lingerd says to an offer, be it of a delivery or of a way back. Not accepted: it has let go
// of both descriptors.
enum class Acceptance : std::uint16_t {
  kAccepted = 0,
  kNoRoom = 1,  // no memory left for it (--offload-memory), or no descriptors
  kUnfit = 2,   // a descriptor that hasn't arrived or isn't what it should be
  kDenied = 3,  // a way back that lingerd may not connect to
};

struct Answer {
  std::uint32_t magic = kAnswerMagic;
  std::uint16_t version = kRecordVersion;
  Acceptance acceptance = Acceptance::kUnfit;
  std::uint64_t ticket = 0;
};
static_assert(sizeof(Answer) == 16, "the answer's size is part of the contract");

// False for anything but an answer.
[[nodiscard]] bool decode_answer(std::span<const std::byte> bytes, Answer& out);

// An idle connection's way back, as it travels: lingerd connects to httpd's private listener, a
// Unix stream socket, sends this with the client's descriptor, and closes. What httpd has to know
// of a connection that it has never seen.
struct ReturnRecord {
  std::uint32_t magic = kReturnMagic;
  std::uint16_t version = kRecordVersion;
  std::uint16_t size = 0;
  std::uint32_t keepalives = 0;
  std::uint32_t keepalive_ms = 0;  // KeepAliveTimeout of its last request's server
  std::uint64_t parked_ns = 0;     // how long it was lingerd's
  // As it came with the connection: httpd's proof that it has parked this very connection, with
  // these numbers, itself. To lingerd it means nothing.
  std::uint64_t tag = 0;
};
static_assert(sizeof(ReturnRecord) == 32, "the record's size is part of the contract");

// What it has waited for, and why it comes now.
enum class WaitedFor : std::uint16_t { kNextRequest, kHead, kBody };
enum class Outcome : std::uint16_t {
  kCame,      // it is there
  kTimedOut,  // it isn't, and its time is over: the client has had it
  kEarly,     // it isn't, and lingerd waits no longer: no more can come, or there is no room for it
};

// The same of a request that was gathered.
struct GatheredRecord {
  ReturnRecord back{.magic = kGatheredMagic};  // keepalive_ms is LingerRequestTimeout
  WaitedFor waited_for = WaitedFor::kHead;
  Outcome outcome = Outcome::kCame;
  std::uint32_t unused = 0;
};
static_assert(sizeof(GatheredRecord) == 40, "the record's size is part of the contract");

struct Return {
  std::uint32_t keepalives = 0;
  std::uint32_t keepalive_ms = 0;
  std::uint64_t parked_ns = 0;
  std::uint64_t tag = 0;
  WaitedFor waited_for = WaitedFor::kNextRequest;
  Outcome outcome = Outcome::kCame;
};

[[nodiscard]] constexpr WaitedFor waited_for_by(const Handoff& handoff) {
  if (handoff.kind != RecordKind::kRequest) return WaitedFor::kNextRequest;
  return handoff.awaited.part == RequestPart::kHead ? WaitedFor::kHead : WaitedFor::kBody;
}

[[nodiscard]] ReturnRecord encode(const Return& back);
[[nodiscard]] GatheredRecord encode_gathered(const Return& back);
// Of either. False, and `out` as it was: no valid record.
[[nodiscard]] bool decode(std::span<const std::byte> bytes, Return& out);

}  // namespace lingerd
