// SPDX-License-Identifier: Apache-2.0
#include "lingerd/core/shares.h"

#include <algorithm>

namespace lingerd {

// Its own, else one that is free; the last one if there is none.
Shares::Place Shares::place_of(User user) const {
  std::size_t free = std::min(ever_, kMostUsers - 1);
  for (std::size_t i = 0; i < std::min(ever_, kMostUsers - 1); ++i) {
    if (entries_[i].all == 0) {
      free = i;
    } else if (entries_[i].user == user) {
      return static_cast<Place>(i);
    }
  }
  return static_cast<Place>(free);
}

Shares::Place Shares::add(User user, Kind kind, std::uint32_t count) {
  const Place place = place_of(user);
  Entry& entry = entries_[place];
  if (entry.all == 0) entry.user = user;
  add_at(place, kind, count);
  return place;
}

void Shares::add_at(Place place, Kind kind, std::uint32_t count) {
  Entry& entry = entries_[place];
  if (entry.all == 0) ++users_;
  ever_ = std::max(ever_, std::size_t{place} + 1);
  entry.all += count;
  entry.of[static_cast<std::size_t>(kind)] += count;
  total_ += count;
}

void Shares::remove(Place place, Kind kind, std::uint32_t count) {
  Entry& entry = entries_[place];
  entry.all -= count;
  entry.of[static_cast<std::size_t>(kind)] -= count;
  total_ -= count;
  if (entry.all == 0) --users_;
}

std::optional<Shares::Choice> Shares::who_makes_room(std::optional<User> asking,
                                                     std::size_t room) const {
  const std::size_t own = asking ? place_of(*asking) : kMostUsers;
  const bool is_new = asking && entries_[own].all == 0;
  const std::size_t users = users_ + (is_new ? 1 : 0);
  std::optional<Choice> choice;
  std::size_t most = 0;
  for (std::size_t i = 0; i < std::max(ever_, asking ? own + 1 : 0); ++i) {
    const auto place = static_cast<Place>(i);
    const bool asks = i == own;
    const bool is_able = held(place, Kind::kLinger) > 0 || held(place, Kind::kParked) > 0;
    if (!asks && !is_able) continue;
    const std::size_t holds = held(place) + (asks ? room : 0);
    // Of two that hold the same it is the one that wants more, if it can.
    const bool as_good = is_able && (asks || !choice || !choice->is_able);
    if (choice && (holds < most || (holds == most && !as_good))) continue;
    choice = Choice{place, is_able, users > 1 && holds * users > total_ + room};
    most = holds;
  }
  return choice;
}

}  // namespace lingerd
