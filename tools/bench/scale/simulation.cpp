// SPDX-License-Identifier: Apache-2.0
// lingerd's own work at a scale that this machine's descriptor limit doesn't reach: the real
// lingerer with pretended sockets, up to a million of them. What the kernel takes for a socket is
// not in these figures.
#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/capacity.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/deliveries.h"
#include "lingerd/core/drain.h"
#include "lingerd/core/lingerer.h"
#include "t/unit/no_deliveries.h"

namespace {

using lingerd::DrainResult;
using lingerd::SocketId;

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kBatch = 32;  // arrivals that are settled together
constexpr std::uint64_t kLives = 2'000'000;

// Sockets whose clients close when the simulation says so.
class PretendedSockets : public lingerd::SocketOps {
 public:
  explicit PretendedSockets(std::size_t count)
      : generation_(count), closed_by_client_(count), unused_() {
    for (std::size_t id = count; id > 0; --id) unused_.push_back(static_cast<SocketId>(id - 1));
  }
  DrainResult drain(SocketId id) override {
    const auto state = closed_by_client_[id] ? DrainResult::State::kEof : DrainResult::State::kOpen;
    return {.state = state, .bytes = 0};
  }
  std::uint64_t unsent(SocketId /*id*/) override { return 0; }
  bool watch(SocketId id, std::uint32_t generation) override {
    generation_[id] = generation;
    return true;
  }
  void close(SocketId id, bool /*watched*/) override {
    closed_by_client_[id] = false;
    unused_.push_back(id);
  }

  SocketId open() {
    const SocketId id = unused_.back();
    unused_.pop_back();
    return id;
  }
  void close_by_client(SocketId id) { closed_by_client_[id] = true; }
  [[nodiscard]] std::uint32_t generation(SocketId id) const { return generation_[id]; }

 private:
  std::vector<std::uint32_t> generation_;
  std::vector<char> closed_by_client_;
  std::vector<SocketId> unused_;
};

std::uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  statm >> size >> resident;
  return resident * 4096;
}

double nanoseconds_since(std::chrono::steady_clock::time_point begin) {
  return static_cast<double>((std::chrono::steady_clock::now() - begin) /
                             std::chrono::nanoseconds(1));
}

lingerd::Handoff handoff(std::uint64_t now) {
  return {.kind = lingerd::RecordKind::kLinger,
          .idle_ms = 600'000,
          .cap_ms = 3'600'000,
          .handed_off_ns = now};
}

// One comes, some other one goes, whichever its place in the queue. Nanoseconds each.
template <typename Arrive>
double live(lingerd::Lingerer& lingerer, PretendedSockets& sockets, std::uint32_t queue,
            std::uint64_t& now, Arrive arrive) {
  std::minstd_rand random(1);
  std::vector<SocketId> leaving(kBatch);
  const auto begin = std::chrono::steady_clock::now();
  for (std::uint64_t life = 0; life < kLives; life += kBatch) {
    for (SocketId& id : leaving) id = static_cast<SocketId>(random() % queue);
    for (const SocketId id : leaving) {
      sockets.close_by_client(id);
      lingerer.ready(id, sockets.generation(id), now);
    }
    while (lingerer.size() < queue) arrive();
    lingerer.settle(now += 100'000);
    lingerer.expire(now, 1000);
  }
  return nanoseconds_since(begin) / kLives;
}

void run(std::uint32_t queue) {
  PretendedSockets sockets(queue + kBatch);
  lingerd::DaemonCounters counters;
  lingerd::Capacity capacity(counters, queue + kBatch);
  NoDeliveries none;
  lingerd::Deliveries deliveries(none, capacity, counters);
  lingerd::Lingerer lingerer(sockets, deliveries, capacity, counters, 3'600'000);
  std::uint64_t now = 1000 * kSecond;
  const auto arrive = [&] { lingerer.arrive(sockets.open(), handoff(now), now, false); };

  const std::uint64_t before = resident_bytes();
  for (std::uint32_t i = 0; i < queue; ++i) {
    arrive();
    now += 1000;
    if (i % kBatch == 0) lingerer.settle(now);
  }
  lingerer.settle(now);
  const double bytes = static_cast<double>(resident_bytes() - before) / queue;

  const double each = live(lingerer, sockets, queue, now, arrive);

  // All of them silent: every deadline at once.
  const auto silent = std::chrono::steady_clock::now();
  now += 3600 * kSecond;
  while (lingerer.size() > 0) lingerer.expire(now, 1000);
  std::printf("%9u in the queue: %6.1f bytes each, %6.1f ns a life, %6.1f ns a deadline\n", queue,
              bytes, each, nanoseconds_since(silent) / queue);
}

}  // namespace

int main() {
  for (const std::uint32_t queue : {100U, 19'000U, 100'000U, 1'000'000U}) run(queue);
  return 0;
}
