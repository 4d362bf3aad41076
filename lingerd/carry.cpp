// SPDX-License-Identifier: Apache-2.0
#include "lingerd/carry.h"

#include <cstring>
#include <utility>

#include "lingerd/record.h"

namespace lingerd {
namespace {

constexpr std::size_t kCounterWords = 40;
static_assert(kDaemonCounters <= kCounterWords, "raise kCarryVersion when the state grows");

struct Header {
  std::uint64_t magic = kCarryMagic;
  std::uint32_t version = kCarryVersion;
  std::uint32_t socket_size = sizeof(CarriedSocket);
  std::uint64_t sockets = 0;
  std::uint64_t started_ns = 0;
  std::uint64_t counters[kCounterWords]{};
};

bool good_duration(std::uint32_t ms) {
  return ms >= 1 && ms <= kMaxDurationMs;
}

bool good_delivery(const CarriedSocket& socket) {
  if (!socket.delivers()) return true;
  return good_duration(socket.linger_idle_ms) && good_duration(socket.linger_cap_ms) &&
         socket.content_left <= kMaxContent && socket.content_offset <= kMaxContent &&
         socket.content_memory <= kMaxContent && socket.window_left >= socket.content_left &&
         socket.window_left <= kMaxContent;
}

bool good(const CarriedSocket& socket, std::uint64_t now_ms) {
  const std::uint64_t latest = now_ms + kMaxDurationMs;
  return good_duration(socket.cap_ms) && good_duration(socket.idle_wait_ms) &&
         good_duration(socket.idle_ms) && socket.started_ms <= now_ms &&
         socket.cap_deadline_ms <= latest && socket.idle_deadline_ms <= latest &&
         socket.cap_deadline_ms >= socket.cap_ms &&
         socket.idle_deadline_ms >= socket.idle_wait_ms && good_delivery(socket);
}

}  // namespace

std::vector<std::byte> encode(const CarriedState& state) {
  Header header;
  header.sockets = state.sockets.size();
  header.started_ns = state.started_ns;
  std::memcpy(header.counters, state.counters.array().data(), sizeof(DaemonCounters));
  const std::size_t sockets_size = state.sockets.size() * sizeof(CarriedSocket);
  std::vector<std::byte> bytes(sizeof header + sockets_size);
  std::memcpy(bytes.data(), &header, sizeof header);
  if (sockets_size > 0) {
    std::memcpy(bytes.data() + sizeof header, state.sockets.data(), sockets_size);
  }
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
  if (header.sockets != rest.size() / sizeof(CarriedSocket) ||
      rest.size() % sizeof(CarriedSocket) != 0) {
    return CarryResult::kGarbage;
  }
  CarriedState state;
  state.started_ns = header.started_ns;
  std::memcpy(state.counters.array().data(), header.counters, sizeof(DaemonCounters));
  state.sockets.resize(header.sockets);
  if (!rest.empty()) std::memcpy(state.sockets.data(), rest.data(), rest.size());
  for (const CarriedSocket& socket : state.sockets) {
    if (!good(socket, now_ms)) return CarryResult::kGarbage;
  }
  out = std::move(state);
  return CarryResult::kOk;
}

}  // namespace lingerd
