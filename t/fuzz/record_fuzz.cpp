// SPDX-License-Identifier: Apache-2.0
// Whatever a peer sends: decoded within its bytes, and only to what lingerd can act on; and sockets
// that come with it live and end in one counter each, whatever durations and times it makes up.
#include "lingerd/record.h"

#include <algorithm>
#include <cstdlib>
#include <span>
#include <vector>

#include "lingerd/lingerer.h"

namespace {

using namespace lingerd;

constexpr std::uint64_t kStartNs = 1'000'000'000'000;
constexpr std::uint32_t kMostSockets = 8;

DecodeResult decode_checked(std::span<const std::byte> bytes, Handoff& handoff) {
  const DecodeResult result = decode(bytes, handoff);
  if (describe(result).empty()) std::abort();
  if (result != DecodeResult::kOk) return result;
  if (handoff.kind != RecordKind::kLinger) std::abort();
  if (handoff.idle_ms < 1 || handoff.idle_ms > kMaxDurationMs) std::abort();
  if (handoff.cap_ms < 1 || handoff.cap_ms > kMaxDurationMs) std::abort();
  return result;
}

// What the fuzzer says of the next client that somebody looks at.
class Clients final : public SocketOps {
 public:
  DrainResult drain(SocketId) override {
    using State = DrainResult::State;
    switch (mood % 8) {
      case 0: return {State::kEof, 0};
      case 1: return {State::kReset, 0};
      case 2: return {State::kNotConnected, 0};
      case 3: return {State::kOpen, mood};
      default: return {State::kOpen, 0};
    }
  }
  std::uint64_t unsent(SocketId) override { return mood % 16 < 8 ? 0 : mood * 1'000U; }
  bool watch(SocketId, std::uint32_t) override { return mood % 32 != 31; }
  void close(SocketId id, bool) override { free_.push_back(id); }
  SocketId next() {
    if (free_.empty()) return next_++;
    const SocketId id = free_.back();
    free_.pop_back();
    return id;
  }
  std::uint8_t mood = 0;

 private:
  std::vector<SocketId> free_;
  SocketId next_ = 3;
};

// The input as messages: a byte for the client's mood and the time that passes, one for the length.
void hand_over(std::span<const std::byte> bytes) {
  Clients clients;
  Lingerer lingerer(clients, kMostSockets, 60'000);
  std::uint64_t now_ns = kStartNs;
  while (bytes.size() >= 2) {
    clients.mood = static_cast<std::uint8_t>(bytes[0]);
    const std::size_t length =
        std::min<std::size_t>(static_cast<std::uint8_t>(bytes[1]) % 72, bytes.size() - 2);
    now_ns += std::uint64_t{clients.mood} * 7'000'000;
    Handoff handoff;
    if (decode_checked(bytes.subspan(2, length), handoff) == DecodeResult::kOk) {
      lingerer.arrive(clients.next(), handoff, now_ns, clients.mood % 3 == 0);
    } else {
      lingerer.settle(now_ns);
      lingerer.readable(clients.mood % 16, 1, now_ns);
    }
    lingerer.expire(now_ns, 100);
    if (lingerer.size() > kMostSockets || !adds_up(lingerer.counters())) std::abort();
    bytes = bytes.subspan(2 + length);
  }
  clients.mood = 7;
  lingerer.settle(now_ns);
  if (lingerer.size() > 0 && !lingerer.next_deadline()) std::abort();
  lingerer.end_all(now_ns);
  if (lingerer.size() != 0 || !adds_up(lingerer.counters())) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  Handoff handoff;
  (void)decode_checked(bytes, handoff);
  (void)decode_greeting(bytes);
  hand_over(bytes);
  return 0;
}
