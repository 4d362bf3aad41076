// SPDX-License-Identifier: Apache-2.0
// How many descriptors of clients lingerd holds at most (--max-connections), and which one ends
// first when there would be more. Whatever takes one in asks here, once; nothing else knows the
// limit. Pure.
//
// Of the user that makes room (shares.h) a parked connection goes first: it may be closed at any
// time (RFC 9112, 9.5). Then the linger nearest its deadline. A delivery's end is a response lost:
// only a lower limit comes to that, and then to the one that has stood still for longest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "contract/counters.h"
#include "lingerd/core/shares.h"

namespace lingerd {

class Capacity {
 public:
  using User = Shares::User;

  // What holds the sockets, and ends those that Capacity tells it to.
  class Lingers {
   public:
    virtual ~Lingers() = default;
    // One fewer of that user, which has some: the one nearest its deadline.
    virtual void evict_one_of(const Shares::Choice& user, std::uint64_t now_ns) = 0;
    // One delivery fewer, whichever user's. False: there is none.
    [[nodiscard]] virtual bool evict_delivery(std::uint64_t now_ns) = 0;
  };
  class Stays {
   public:
    virtual ~Stays() = default;
    virtual void end_one_of(const Shares::Choice& user, std::uint64_t now_ns) = 0;
  };
  // Hears of a user that has to make room because it holds more than its share.
  class Witness {
   public:
    virtual ~Witness() = default;
    virtual void over_share(User user, std::size_t holds, std::uint64_t now_ns) = 0;
  };

  // The limit is on the page, by `counters`.
  Capacity(DaemonCounters& counters, std::uint32_t limit);

  // Each says itself that it is there, before it takes anything in.
  void set(Lingers& lingers) { lingers_ = &lingers; }
  void set(Stays& stays) { stays_ = &stays; }
  void set(Witness& witness) { witness_ = &witness; }

  [[nodiscard]] std::uint32_t limit() const { return limit_; }
  // Ends what is beyond it.
  void set_limit(std::uint32_t limit, std::uint64_t now_ns);

  // Ends what is in the way of so many more.
  void make_room(std::size_t room, std::uint64_t now_ns);
  // The same for a user's. False: it would have to make the room itself, and has nothing that could
  // be ended.
  [[nodiscard]] bool make_room_for(User user, std::size_t room, std::uint64_t now_ns);

  // What each user holds: entered by what takes it in.
  [[nodiscard]] Shares& shares() { return shares_; }
  [[nodiscard]] const Shares& shares() const { return shares_; }

 private:
  bool make_room(std::size_t room, std::optional<User> asking, std::uint64_t now_ns);
  void tell(const Shares::Choice& choice, std::optional<User> asking, std::uint64_t now_ns) const;
  void end_one_of(const Shares::Choice& choice, std::uint64_t now_ns);

  DaemonCounters& counters_;
  std::uint32_t limit_;
  Shares shares_;
  Lingers* lingers_ = nullptr;
  Stays* stays_ = nullptr;
  Witness* witness_ = nullptr;
};

}  // namespace lingerd
