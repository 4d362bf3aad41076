// SPDX-License-Identifier: Apache-2.0
// Which user holds how much of what there is a limit for. A user that is alone may have all of it;
// only when all is taken there are shares: the limit divided by the number of users that hold any.
// The user that holds most is over its share then (or all are at theirs), and makes room first, so
// that no user's flood ends what another one has. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace lingerd {

class Shares {
 public:
  using User = std::uint32_t;  // a uid, as the kernel gave it for a peer
  // A user's place in the table, for as long as it holds anything: small, because each connection
  // notes one.
  using Place = std::uint8_t;
  // Users that are told apart at the same time; all others share the last place.
  static constexpr std::size_t kMostUsers = 64;

  enum class Kind : std::uint8_t {
    kLinger,  // may be ended to make room,
    kParked,  // and this first
    kFixed,   // responses under way and offers: not for somebody else's room
  };
  static constexpr std::size_t kKinds = 3;

  // `user` holds so many more, or fewer, descriptors.
  Place add(User user, Kind kind, std::uint32_t count = 1);
  void add_at(Place place, Kind kind, std::uint32_t count = 1);
  void remove(Place place, Kind kind, std::uint32_t count = 1);

  [[nodiscard]] std::size_t total() const { return total_; }
  [[nodiscard]] std::size_t users() const { return users_; }
  [[nodiscard]] User user(Place place) const { return entries_[place].user; }
  [[nodiscard]] std::size_t held(Place place) const { return entries_[place].all; }
  [[nodiscard]] std::size_t held(Place place, Kind kind) const {
    return entries_[place].of[static_cast<std::size_t>(kind)];
  }
  // Which user has to make room for `room` more of `asking` (nothing: of nobody in particular): of
  // those that can, the one that holds most. It may be `asking` itself, even where that has nothing
  // to end (is_able): then there is no room for it. Nothing: nobody can.
  struct Choice {
    Place place = 0;
    bool is_able = false;
    bool is_over = false;  // more than its share, and it isn't alone
  };
  [[nodiscard]] std::optional<Choice> who_makes_room(std::optional<User> asking,
                                                     std::size_t room) const;

 private:
  struct Entry {
    User user = 0;
    std::uint32_t all = 0;
    std::array<std::uint32_t, kKinds> of{};
  };
  [[nodiscard]] Place place_of(User user) const;

  std::array<Entry, kMostUsers> entries_;
  std::size_t total_ = 0;
  std::size_t users_ = 0;  // places in use
  std::size_t ever_ = 0;   // places that have been
};

}  // namespace lingerd
