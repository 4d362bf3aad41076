// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/carry.h"

#include <cstring>
#include <utility>

#include "contract/record.h"

namespace lingerd {
namespace {

constexpr std::size_t kCounterWords = 64;
static_assert(kDaemonCounters <= kCounterWords, "raise kCarryVersion when the state grows");

struct Header {
  std::uint64_t magic = kCarryMagic;
  std::uint32_t version = kCarryVersion;
  std::uint32_t socket_size = sizeof(CarriedSocket);
  std::uint64_t sockets = 0;
  std::uint64_t started_ns = 0;
  std::uint64_t parked = 0;
  std::uint64_t addresses = 0;
  std::uint64_t counters[kCounterWords]{};
};

bool good_duration(std::uint32_t ms) {
  return ms >= 1 && ms <= kMaxDurationMs;
}

bool good_patience(const Patience& patience) {
  return good_duration(patience.idle_ms) && patience.fin <= kOnlyFin;
}

bool good_clock(const Clock& clock, std::uint64_t now_ms) {
  return good_duration(clock.duration_ms) && clock.deadline >= clock.duration_ms &&
         clock.deadline <= now_ms + kMaxDurationMs;
}

bool good_delivery(const Delivery& delivery) {
  const Content& content = delivery.content;
  return good_duration(delivery.idle_ms) && good_duration(delivery.cap_ms) &&
         good_patience(delivery.patience) && content.left <= kMaxContent &&
         content.offset <= 2 * kMaxContent - content.left && content.memory <= kMaxContent &&
         delivery.window_left >= content.left && delivery.window_left <= kMaxContent;
}

bool good(const CarriedSocket& socket, std::uint64_t now_ms) {
  return good_clock(socket.cap, now_ms) && good_clock(socket.idle, now_ms) &&
         good_patience(socket.linger.patience) && socket.linger.started <= now_ms &&
         (!socket.delivers() || good_delivery(socket.delivery));
}

bool good_request(const CarriedParking& parking, std::uint64_t now_ms) {
  const AwaitedPart& awaited = parking.awaited;
  return parking.stay.waited_for <= WaitedFor::kBody && parking.stay.outcome <= Outcome::kEarly &&
         awaited.part >= RequestPart::kHead && awaited.part <= RequestPart::kChunks &&
         awaited.most <= kMaxContent && parking.began <= now_ms;
}

bool good(const CarriedParking& parking, std::uint64_t now_ms, std::uint64_t addresses) {
  const Stay& stay = parking.stay;
  const bool returns = stay.returning_since != 0;
  return good_duration(stay.keepalive_ms) && good_duration(stay.idle_ms) &&
         good_duration(stay.cap_ms) && stay.arrived <= now_ms && stay.returning_since <= now_ms &&
         parking.address < addresses && parking.over_tls <= 1 &&
         parking.deadline_ms <= now_ms + 1 + kMaxDurationMs &&
         (stay.is_requests() ? good_request(parking, now_ms)
                             : returns || parking.deadline_ms >= stay.keepalive_ms);
}

template <typename T>
std::byte* append(std::byte* to, const std::vector<T>& items) {
  if (!items.empty()) std::memcpy(to, items.data(), items.size() * sizeof(T));
  return to + items.size() * sizeof(T);
}

template <typename T>
std::span<const std::byte> take(std::span<const std::byte> from, std::size_t count,
                                std::vector<T>& items) {
  items.resize(count);
  if (count > 0) std::memcpy(items.data(), from.data(), count * sizeof(T));
  return from.subspan(count * sizeof(T));
}

}  // namespace

void go_on_from(const DaemonCounters& carried, DaemonCounters& ours) {
  const DaemonCounters before = ours;
  ours = carried;
  for (const auto limit : {DaemonCounter::kQueueLimit, DaemonCounter::kOffloadMemoryLimit,
                           DaemonCounter::kGatherMemoryLimit}) {
    ours[limit] = before[limit];
  }
}

std::vector<std::byte> encode(const CarriedState& state) {
  Header header;
  header.sockets = state.sockets.size();
  header.started_ns = state.started_ns;
  header.parked = state.parked.size();
  header.addresses = state.addresses;
  std::memcpy(header.counters, state.counters.array().data(), sizeof(DaemonCounters));
  std::vector<std::byte> bytes(sizeof header + state.sockets.size() * sizeof(CarriedSocket) +
                               state.parked.size() * sizeof(CarriedParking));
  std::memcpy(bytes.data(), &header, sizeof header);
  append(append(bytes.data() + sizeof header, state.sockets), state.parked);
  return bytes;
}

CarryResult decode(std::span<const std::byte> bytes, std::uint64_t now_ms, CarriedState& out) {
  Header header;
  if (bytes.size() < sizeof header) return CarryResult::kGarbage;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != kCarryMagic) return CarryResult::kGarbage;
  if (header.version != kCarryVersion || header.socket_size != sizeof(CarriedSocket)) {
    return CarryResult::kOtherVersion;
  }
  const std::span<const std::byte> rest = bytes.subspan(sizeof header);
  // Each count by itself first: their sum may be beyond what a number holds.
  if (header.sockets > rest.size() / sizeof(CarriedSocket) ||
      header.parked > rest.size() / sizeof(CarriedParking) || header.addresses > kMostAddresses ||
      rest.size() !=
          header.sockets * sizeof(CarriedSocket) + header.parked * sizeof(CarriedParking)) {
    return CarryResult::kGarbage;
  }
  CarriedState state;
  state.started_ns = header.started_ns;
  std::memcpy(state.counters.array().data(), header.counters, sizeof(DaemonCounters));
  state.addresses = header.addresses;
  take(take(rest, header.sockets, state.sockets), header.parked, state.parked);
  for (const CarriedSocket& socket : state.sockets) {
    if (!good(socket, now_ms)) return CarryResult::kGarbage;
  }
  for (const CarriedParking& parking : state.parked) {
    if (!good(parking, now_ms, state.addresses)) return CarryResult::kGarbage;
  }
  out = std::move(state);
  return CarryResult::kOk;
}

}  // namespace lingerd
