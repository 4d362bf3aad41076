// SPDX-License-Identifier: Apache-2.0
// Lingers that end because there is no room: Capacity asks.
#include <cstdint>
#include <optional>

#include "contract/counters.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/lingerer.h"
#include "lingerd/core/shares.h"

namespace lingerd {

using enum DaemonCounter;

void Lingerer::evict_one_of(const Shares::Choice& user, std::uint64_t now_ns) {
  if (user.is_over) ++counters_[kOverShare];
  give_up(first_to_end(user.place), kEvicted, now_ns);
}

bool Lingerer::evict_delivery(std::uint64_t now_ns) {
  const std::optional<SocketId> slowest = deliveries_.slowest();
  if (slowest) give_up(*slowest, kEvicted, now_ns);
  return slowest.has_value();
}

// The socket that would end first if nothing more came, of the heads of all of that user's lists.
// For one that still takes its response the next look is not the end yet.
SocketId Lingerer::first_to_end(Shares::Place place) const {
  Due first = *cap_.next_of(place);  // armed for each one that lingers
  idle_.for_each_head_of(place, [&](SocketId id) {
    const auto look = *idle_.armed(id);
    const MonoMillis end =
        look.deadline +
        MonoMillis{slots_[id].linger.patience.looks_after_next()} * look.duration_ms;
    if (end < first.deadline) first = {id, end};
  });
  return first.id;
}

}  // namespace lingerd
