// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/offload/room.h"

#include "base/clock.h"
#include "contract/counters.h"
#include "contract/stats_page.h"
#include "contract/stats_reader.h"
#include "mod_linger/child.h"

namespace lingerd {

bool lingerd_has_room(std::uint64_t bytes) noexcept {
  const DaemonStatus status = read_stats(stats_path(), monotonic_ns());
  const DaemonCounters& counters = status.snapshot.counters;
  const std::uint64_t taken = counters[DaemonCounter::kOffloadMemory];
  const std::uint64_t limit = counters[DaemonCounter::kOffloadMemoryLimit];
  const bool fits = bytes == 0 || (taken < limit && bytes <= limit - taken);
  return status.liveness == Liveness::kUp && fits &&
         has_room_for_delivery(deliveries_under_way(counters),
                               counters[DaemonCounter::kQueueLimit]);
}

}  // namespace lingerd
