// SPDX-License-Identifier: Apache-2.0
// Whatever comes to a parked connection, and whatever comes back to httpd: each connection is in
// one place, ends in one counter, and lets go of its way back once.
#include "lingerd/core/parked.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/awaited.h"
#include "lingerd/core/capacity.h"
#include "lingerd/core/carry.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/return_lines.h"

namespace {

using namespace lingerd;

constexpr std::uint64_t kStartNs = 1'000'000'000'000;
constexpr std::size_t kMostSockets = 8;

void must(bool holds) {
  if (!holds) std::abort();
}

// What the fuzzer says of the next client, and of httpd.
class Clients final : public ParkOps {
 public:
  bool watch(SocketId id, std::uint32_t generation, Watch) override {
    must(open.count(id) == 1);
    open[id] = generation;
    return mood % 32 != 31;
  }
  Peek peek(SocketId id, bool) override {
    must(open.count(id) == 1);
    return static_cast<Peek>(mood % 4);
  }
  Arrived look(SocketId id, std::size_t front) override {
    must(open.count(id) == 1);
    static constexpr std::string_view kRequest =
        "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    const std::string_view there = kRequest.substr(0, mood % (kRequest.size() + 1));
    return {static_cast<Arrived::State>(mood / 64 % 3), mood % 2 == 0, there.size(),
            there.substr(0, front)};
  }
  void await(SocketId id, std::uint64_t) override { must(open.count(id) == 1); }
  SendBack send_back(SocketId id, AddressId to, const Return& back) override {
    must(open.count(id) == 1 && users[to] > 0);
    Return arrived;
    const ReturnRecord record = encode(back);
    const GatheredRecord gathered = encode_gathered(back);
    const bool idles = back.waited_for == WaitedFor::kNextRequest;
    must(decode(
        idles ? std::as_bytes(std::span(&record, 1)) : std::as_bytes(std::span(&gathered, 1)),
        arrived));
    must(arrived.waited_for == back.waited_for);
    // The one that httpd has refused is the next to try there, until it is gone.
    must(first.count(to) == 0 || first[to] == id);
    const auto how = static_cast<SendBack>(mood / 3 % 3);
    if (how == SendBack::kLater) first[to] = id;
    return how;
  }
  void close(SocketId id) override {
    must(open.erase(id) == 1);
    std::erase_if(first, [id](const auto& each) { return each.second == id; });
  }
  void linger(SocketId id, const Handoff& handoff, std::uint64_t) override {
    must(handoff.idle_ms >= 1 && handoff.cap_ms >= 1);
    close(id);
  }
  void release(AddressId address) override { must(--users[address] >= 0); }

  std::map<SocketId, std::uint32_t> open;
  std::map<AddressId, int> users;
  std::map<AddressId, SocketId> first;  // in line, refused
  std::uint8_t mood = 0;
};

void live(std::span<const std::byte> bytes) {
  Clients clients;
  DaemonCounters counters;
  Capacity capacity(counters, kMostSockets);
  Parked parked(clients, capacity, counters);
  std::uint64_t now_ns = kStartNs;
  SocketId next = 3;
  while (bytes.size() >= 2) {
    clients.mood = static_cast<std::uint8_t>(bytes[0]);
    const std::size_t length =
        std::min<std::size_t>(static_cast<std::uint8_t>(bytes[1]) % 72, bytes.size() - 2);
    now_ns += std::uint64_t{clients.mood} * 7'000'000;
    Handoff handoff;
    if (decode(bytes.subspan(2, length), handoff) == DecodeResult::kOk &&
        (handoff.kind == RecordKind::kIdle || handoff.kind == RecordKind::kRequest)) {
      handoff.user = clients.mood % 3;
      capacity.make_room(1, now_ns);
      while (clients.open.count(next % 16) == 1) ++next;
      clients.open[next % 16] = 0;
      ++clients.users[clients.mood % 4];
      parked.arrive(next % 16, clients.mood % 4, handoff, now_ns);
    } else if (clients.mood % 5 == 4) {
      parked.abandon(clients.mood % 4, now_ns);
    } else {
      const auto at = clients.open.find(clients.mood % 16);
      parked.ready(clients.mood % 16, at == clients.open.end() ? 1 : at->second, now_ns);
    }
    parked.expire(now_ns, 100);
    must(parked.size() == clients.open.size() && parked.size() <= kMostSockets);
    must(parks_add_up(counters) && gathers_add_up(counters) &&
         counters[DaemonCounter::kParked] + counters[DaemonCounter::kGathering] == parked.size());
    must((parked.size() == 0) == !parked.next_deadline());
    bytes = bytes.subspan(2 + length);
  }
  parked.end_all(now_ns);
  clients.mood = 6;  // a request, and nobody listens
  parked.expire(now_ns + kReturnLimitMs * std::uint64_t{2'000'000}, 1'000);
  must(parked.size() == 0 && clients.open.empty() && gathers_add_up(counters));
  for (const auto& [address, users] : clients.users) must(users == 0);
}

void live_on(std::span<const std::byte> bytes) {
  CarriedState state;
  if (decode(bytes, kStartNs / 1'000'000, state) != CarryResult::kOk) return;
  if (state.parked.size() > 64) return;
  Clients clients;
  Capacity capacity(state.counters, kMostSockets);
  Parked parked(clients, capacity, state.counters);
  std::vector<Parked::Carried> arrived;
  for (const CarriedParking& each : state.parked) {
    const auto id = static_cast<SocketId>(3 + arrived.size());
    clients.open[id] = 0;
    ++clients.users[each.address];
    arrived.push_back({id, each.address, each});
  }
  parked.carry_in(std::move(arrived), kStartNs);
  must(parked.size() == clients.open.size());
  // No deadline is further away than a stay can be.
  clients.mood = 6;
  parked.expire(kStartNs + std::uint64_t{2 * kMaxDurationMs + 2} * 1'000'000, 1'000);
  must(parked.size() == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  Return back;
  if (decode(bytes, back)) must(back.keepalive_ms >= 1 && back.keepalive_ms <= kMaxDurationMs);
  live(bytes);
  live_on(bytes);
  return 0;
}
