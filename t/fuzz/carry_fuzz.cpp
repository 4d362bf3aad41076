// SPDX-License-Identifier: Apache-2.0
// Whatever an earlier process left as its state: refused, or taken for what it says and no more;
// and then each socket of it ends, whatever its deadlines were.
#include "lingerd/core/carry.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <utility>
#include <vector>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/capacity.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/deliveries.h"
#include "lingerd/core/delivery.h"
#include "lingerd/core/drain.h"
#include "lingerd/core/lingerer.h"

namespace {

using namespace lingerd;

constexpr std::uint64_t kNowMs = 1'000'000'000;
constexpr std::uint64_t kMilli = 1'000'000;
constexpr std::size_t kMostSockets = 64;

// Clients that neither send nor go.
class SilentClients final : public SocketOps, public DeliveryOps {
 public:
  DrainResult drain(SocketId) override { return {DrainResult::State::kOpen, 0}; }
  std::uint64_t unsent(SocketId) override { return 0; }
  bool watch(SocketId id, std::uint32_t) override { return id % 7 != 0; }
  bool watch_writable(SocketId id, std::uint32_t generation) override {
    return watch(id, generation);
  }
  void watch_readable_again(SocketId, std::uint32_t) override {}
  void stop_watching(SocketId, std::uint32_t) override {}
  void watch_writable_again(SocketId, std::uint32_t) override {}
  PushResult push(SocketId, const Content&) override { return {}; }
  void send_fin(SocketId) override {}
  void close_content(SocketId) override { ++contents_closed; }
  void close(SocketId, bool) override { ++closed; }
  std::size_t closed = 0;
  std::size_t contents_closed = 0;
};

void live_on(const CarriedState& state) {
  SilentClients clients;
  DaemonCounters counters = state.counters;
  Capacity capacity(counters, kMostSockets / 2);
  Deliveries deliveries(clients, capacity, counters);
  Lingerer lingerer(clients, deliveries, capacity, counters, kMaxDurationMs);
  std::vector<Lingerer::Carried> sockets;
  for (const CarriedSocket& socket : state.sockets) {
    const auto id = static_cast<SocketId>(3 + sockets.size());
    sockets.push_back({id, socket});
    sockets.back().state.delivery.content.id = 1'000 + id;
  }
  const std::size_t count = sockets.size();
  const auto contents =
      static_cast<std::size_t>(std::ranges::count_if(state.sockets, &CarriedSocket::delivers));
  lingerer.carry_in(std::move(sockets), kNowMs * kMilli);
  capacity.make_room(0, kNowMs * kMilli);
  if (lingerer.size() > kMostSockets / 2) std::abort();
  std::uint64_t now_ms = kNowMs;
  for (int i = 0; i < 1'000'000 && lingerer.next_deadline(); ++i) {
    now_ms = std::max(now_ms, *lingerer.next_deadline());
    lingerer.expire(now_ms * kMilli, 1'000);
  }
  if (lingerer.size() != 0 || clients.closed != count) std::abort();
  if (clients.contents_closed != contents) std::abort();
  if (counters[DaemonCounter::kOffloadMemory] != 0) std::abort();
  if (counters[DaemonCounter::kOffloadPending] != 0) std::abort();
  // No deadline is further away than a linger can be.
  if (now_ms > kNowMs + 2 * std::uint64_t{kMaxDurationMs}) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  CarriedState state;
  if (decode(bytes, kNowMs, state) != CarryResult::kOk) return 0;
  const std::vector<std::byte> again = encode(state);
  CarriedState same;
  if (decode(again, kNowMs, same) != CarryResult::kOk || encode(same) != again) std::abort();
  if (state.sockets.size() <= kMostSockets) live_on(state);
  return 0;
}
