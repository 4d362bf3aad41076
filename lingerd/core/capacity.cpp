// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/capacity.h"

namespace lingerd {

Capacity::Capacity(DaemonCounters& counters, std::uint32_t limit)
    : counters_(counters), limit_(limit) {
  counters_[DaemonCounter::kQueueLimit] = limit;
}

void Capacity::set_limit(std::uint32_t limit, std::uint64_t now_ns) {
  limit_ = limit;
  counters_[DaemonCounter::kQueueLimit] = limit;
  make_room(0, now_ns);
}

void Capacity::make_room(std::size_t room, std::uint64_t now_ns) {
  (void)make_room(room, std::nullopt, now_ns);
}

bool Capacity::make_room_for(User user, std::size_t room, std::uint64_t now_ns) {
  return make_room(room, user, now_ns);
}

bool Capacity::make_room(std::size_t room, std::optional<User> asking, std::uint64_t now_ns) {
  while (shares_.total() + room > limit_) {
    if (const auto choice = shares_.who_makes_room(asking, room)) {
      if (choice->is_over) tell(*choice, asking, now_ns);
      if (!choice->is_able) return false;
      end_one_of(*choice, now_ns);
    } else if (lingers_ == nullptr || !lingers_->evict_delivery(now_ns)) {
      break;
    }
  }
  return true;
}

void Capacity::tell(const Shares::Choice& choice, std::optional<User> asking,
                    std::uint64_t now_ns) const {
  if (witness_ == nullptr) return;
  // A place that is free, but for what it asks for, has no name yet.
  const std::size_t held = shares_.held(choice.place);
  witness_->over_share(held == 0 ? *asking : shares_.user(choice.place), held, now_ns);
}

void Capacity::end_one_of(const Shares::Choice& choice, std::uint64_t now_ns) {
  if (shares_.held(choice.place, Shares::Kind::kParked) > 0) {
    stays_->end_one_of(choice, now_ns);
  } else {
    lingers_->evict_one_of(choice, now_ns);
  }
}

}  // namespace lingerd
