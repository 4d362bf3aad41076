// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/gathering.h"

#include <poll.h>

#include <ctime>
#include <utility>

#include "base/clock.h"
#include "lingerd/core/parked.h"

namespace lingerd {
namespace {

constexpr std::uint64_t kGatherNs = 1'000'000;
// Arrivals this close to each other are load.
constexpr std::uint64_t kLoadGapNs = 2'000'000;

}  // namespace

bool Gathering::looks_at_once(std::uint64_t now_ns) {
  if (arrived_ == 0) return false;
  loaded_ = now_ns - last_ns_ < kLoadGapNs;
  last_ns_ = now_ns;
  return !loaded_;
}

void Gathering::wait(Parking& parking, std::uint64_t& now_ns) {
  if (std::exchange(arrived_, 0) == 0 || !loaded_) return;
  if (parking.parked().size() == 0) {
    const timespec pause{0, static_cast<long>(kGatherNs)};
    nanosleep(&pause, nullptr);
    return;
  }
  const std::uint64_t until = monotonic_ns() + kGatherNs;
  pollfd parked{parking.epoll_fd(), POLLIN, 0};
  while ((now_ns = monotonic_ns()) < until) {
    const timespec pause{0, static_cast<long>(until - now_ns)};
    if (ppoll(&parked, 1, &pause, nullptr) > 0) parking.dispatch(now_ns);
  }
}

}  // namespace lingerd
