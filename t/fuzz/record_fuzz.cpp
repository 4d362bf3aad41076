// SPDX-License-Identifier: Apache-2.0
// Whatever a peer sends: decoded within its bytes, and only to what lingerd can act on; and sockets
// that come with it live and end in one counter each, whatever durations and times it makes up.
#include "contract/record.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "contract/counters.h"
#include "lingerd/core/capacity.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/deliveries.h"
#include "lingerd/core/delivery.h"
#include "lingerd/core/drain.h"
#include "lingerd/core/lingerer.h"

namespace {

using namespace lingerd;

constexpr std::uint64_t kStartNs = 1'000'000'000'000;
constexpr std::uint32_t kMostSockets = 8;

DecodeResult decode_checked(std::span<const std::byte> bytes, Handoff& handoff) {
  const DecodeResult result = decode(bytes, handoff);
  if (describe(result).empty()) std::abort();
  if (result != DecodeResult::kOk) return result;
  if ((bit_of(handoff.kind) & kAllKinds) == 0) std::abort();
  if (handoff.kind == RecordKind::kBegin || handoff.kind == RecordKind::kWayBack) return result;
  if (handoff.idle_ms < 1 || handoff.idle_ms > kMaxDurationMs) std::abort();
  if (handoff.cap_ms < 1 || handoff.cap_ms > kMaxDurationMs) std::abort();
  const bool delivers = handoff.kind == RecordKind::kDeliver;
  if (delivers != (handoff.content_length > 0)) std::abort();
  if (delivers && (handoff.stall_ms < 1 || handoff.stall_ms > kMaxDurationMs)) std::abort();
  if (handoff.content_length > kMaxContent || handoff.content_offset > kMaxContent) std::abort();
  return result;
}

// What the fuzzer says of the next client that somebody looks at.
class Clients final : public SocketOps, public DeliveryOps {
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
  bool watch_writable(SocketId, std::uint32_t) override { return mood % 32 != 31; }
  PushResult push(SocketId, const Content& content) override {
    using enum PushResult::State;
    const std::uint64_t bytes =
        std::min<std::uint64_t>(content.left, std::uint64_t{mood} << mood % 40);
    if (bytes > 0) return {kMoved, bytes};
    return {mood % 3 == 0 ? kFull : mood % 3 == 1 ? kReset : kCutShort, 0};
  }
  void watch_readable_again(SocketId, std::uint32_t) override {}
  void stop_watching(SocketId, std::uint32_t) override {}
  void watch_writable_again(SocketId, std::uint32_t) override {}
  void send_fin(SocketId) override {}
  void close_content(SocketId) override { ++contents_closed; }
  void close(SocketId id, bool) override { free_.push_back(id); }
  SocketId next() {
    if (free_.empty()) return next_++;
    const SocketId id = free_.back();
    free_.pop_back();
    return id;
  }
  std::uint8_t mood = 0;
  std::uint64_t contents_closed = 0;

 private:
  std::vector<SocketId> free_;
  SocketId next_ = 3;
};

void must_be_over(const DaemonCounters& counters, const Lingerer& lingerer,
                  const Clients& clients) {
  if (lingerer.size() != 0 || !adds_up(counters)) std::abort();
  if (clients.contents_closed != counters[DaemonCounter::kOffloads]) std::abort();
  if (deliveries_under_way(counters) != 0) std::abort();
  if (counters[DaemonCounter::kOffloadMemory] != 0) std::abort();
  if (counters[DaemonCounter::kOffloadPending] != 0) std::abort();
}

// The input as messages: a byte for the client's mood and the time that passes, one for the length.
void hand_over(std::span<const std::byte> bytes) {
  Clients clients;
  DaemonCounters counters;
  Capacity capacity(counters, kMostSockets);
  Deliveries deliveries(clients, capacity, counters);
  Lingerer lingerer(clients, deliveries, capacity, counters, 60'000);
  deliveries.set_limits(50'000, 1'000);
  std::uint64_t now_ns = kStartNs;
  while (bytes.size() >= 2) {
    clients.mood = static_cast<std::uint8_t>(bytes[0]);
    const std::size_t length =
        std::min<std::size_t>(static_cast<std::uint8_t>(bytes[1]) % 72, bytes.size() - 2);
    now_ns += std::uint64_t{clients.mood} * 7'000'000;
    Handoff handoff;
    const DecodeResult result = decode_checked(bytes.subspan(2, length), handoff);
    const std::uint64_t memory = std::uint64_t{clients.mood} * 100;
    if (result == DecodeResult::kOk && handoff.kind == RecordKind::kLinger) {
      lingerer.arrive(clients.next(), handoff, now_ns, clients.mood % 3 == 0);
    } else if (result == DecodeResult::kOk && handoff.kind == RecordKind::kDeliver) {
      if (deliveries.set_aside(memory, 1, now_ns)) {
        deliveries.give_back(memory, 1);
        const Content content{1'000, handoff.content_offset, handoff.content_length, memory};
        lingerer.arrive_with(clients.next(), content, handoff, now_ns);
      }
    } else {
      lingerer.settle(now_ns);
      lingerer.ready(clients.mood % 16, 1, now_ns);
    }
    lingerer.expire(now_ns, 100);
    if (lingerer.size() > kMostSockets || !adds_up(counters)) std::abort();
    bytes = bytes.subspan(2 + length);
  }
  clients.mood = 7;
  lingerer.settle(now_ns);
  if (lingerer.size() > 0 && !lingerer.next_deadline()) std::abort();
  lingerer.end_all(now_ns);
  must_be_over(counters, lingerer, clients);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  Handoff handoff;
  (void)decode_checked(bytes, handoff);
  std::uint64_t kinds = 0;
  (void)decode_greeting(bytes, kinds);
  Answer answer;
  if (decode_answer(bytes, answer) && answer.acceptance > Acceptance::kDenied) std::abort();
  hand_over(bytes);
  return 0;
}
