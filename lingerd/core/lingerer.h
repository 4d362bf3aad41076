// SPDX-License-Identifier: Apache-2.0
// The lingering close of every socket: arrival, drain, deadlines, end. Owns the sockets that it was
// given, by number. Pure: sockets are reached through SocketOps, the time is an argument.
//
// A socket's life:  arrive → fresh → settle ─┬→ end (most quick clients: their FIN is there)
//                                            └→ watched → ready/expire … → end
// One that comes with the rest of a response is delivering first, and watched after the FIN.
// A fresh socket isn't watched yet. Under load the loop settles a batch a millisecond after it
// came, and by then most clients have closed: they cost no epoll registration at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/capacity.h"
#include "lingerd/core/carry.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/deliveries.h"
#include "lingerd/core/delivery.h"
#include "lingerd/core/drain.h"
#include "lingerd/core/shares.h"

namespace lingerd {

// The system's side of a socket.
class SocketOps {
 public:
  virtual ~SocketOps() = default;
  // Discards what has come, without waiting. Takes at most a few megabytes at once.
  [[nodiscard]] virtual DrainResult drain(SocketId id) = 0;
  // Bytes that the client hasn't acknowledged yet, its FIN included.
  [[nodiscard]] virtual std::uint64_t unsent(SocketId id) = 0;
  // Reports the socket as readable, with `generation`, from now on. False: the system refuses.
  [[nodiscard]] virtual bool watch(SocketId id, std::uint32_t generation) = 0;
  // Closes it; `watched` says whether watch() succeeded. The number may come back for another one.
  virtual void close(SocketId id, bool watched) = 0;
};

class Lingerer final : private Capacity::Lingers {
 public:
  // `counters` are the daemon's, of which this one keeps those of lingers.
  Lingerer(SocketOps& ops, Deliveries& deliveries, Capacity& capacity, DaemonCounters& counters,
           std::uint32_t max_time_ms);
  Lingerer(const Lingerer&) = delete;
  Lingerer& operator=(const Lingerer&) = delete;

  // Takes over a socket, for which others end at the limit. `quick`: look at it now; else it waits,
  // fresh, for settle(). It enters the counters at its first look: as taken over, or, if it isn't a
  // connected socket at all, as rejected.
  void arrive(SocketId id, const Handoff& handoff, std::uint64_t now_ns, bool quick);
  // For which Capacity has been asked for room already, with this answer.
  void arrive(SocketId id, const Handoff& handoff, std::uint64_t now_ns, bool quick, bool has_room);

  // The same for a socket that comes with the rest of a response: that is sent first, then the FIN.
  // It has two descriptors, and counts as two.
  void arrive_with(SocketId id, const Content& content, const Handoff& handoff,
                   std::uint64_t now_ns);

  // Looks at every fresh socket: ends those whose client has closed, watches the others.
  void settle(std::uint64_t now_ns);

  // A watched socket is readable, or if it has a delivery, writable. Stale generations (the socket
  // has ended meanwhile) are ignored.
  void ready(SocketId id, std::uint32_t generation, std::uint64_t now_ns);

  // Acts on deadlines that have come, at most `budget` of them.
  void expire(std::uint64_t now_ns, std::size_t budget);
  [[nodiscard]] std::optional<MonoMillis> next_deadline() const;

  // Of what arrives from now on.
  void set_max_time(std::uint32_t max_time_ms) { max_time_ms_ = max_time_ms; }

  // Ends everything, as if its cap had come.
  void end_all(std::uint64_t now_ns);

  // Restart without loss. carry_out() says what the next lingerd must know of each watched socket;
  // settle() first, so that none is fresh. carry_in() takes that over, before anything arrives:
  // sockets without a state of their own go through arrive(). The counters are carried in already;
  // the limit counts only when all is there.
  struct Carried {
    SocketId id = 0;
    CarriedSocket state;  // with the number of the content that it has still to deliver
  };
  [[nodiscard]] std::vector<Carried> carry_out();
  void carry_in(std::vector<Carried> sockets, std::uint64_t now_ns);

  [[nodiscard]] std::size_t size() const { return held_; }  // fresh ones included
  [[nodiscard]] bool has_fresh() const { return !fresh_.empty(); }
  // Hand-off of the oldest linger (deliveries, which may take their time, don't count),
  // CLOCK_MONOTONIC ns; 0: none.
  [[nodiscard]] std::uint64_t oldest_ns() const;

 private:
  void evict_one_of(const Shares::Choice& user, std::uint64_t now_ns) override;
  [[nodiscard]] bool evict_delivery(std::uint64_t now_ns) override;

  enum class Phase : std::uint8_t { kNone, kFresh, kDelivering, kWatched };
  struct Slot {
    Linger linger;
    std::uint32_t generation = 0;
    Phase phase = Phase::kNone;
    Shares::Place place = 0;  // of the user
  };
  // Of each socket: the slot, its idle time and its cap; where sockets deliver, their clocks, too.
  static constexpr std::size_t kBytesEach = sizeof(Slot) + 2 * DeadlineQueue::kBytesEach;
  static_assert(kBytesEach <= 64, "docs/sizing.md: a lingering socket");
  static_assert(kBytesEach + Deliveries::kBytesEach <= 112, "docs/sizing.md: with LingerOffload");

  enum class Look { kOpen, kEnded };
  Look look(SocketId id, std::uint64_t now_ns);
  void count_bytes(SocketId id, std::uint64_t bytes);
  Slot& open_slot(SocketId id, const Handoff& handoff, std::uint64_t now_ns);
  void now_delivers(Slot& slot);
  void settle_one(SocketId id, std::uint64_t now_ns);
  void carry_in_one(const Carried& carried, std::uint64_t now_ns);
  void enter_queue();
  void note_unsent(SocketId id);
  void act_on(SocketId id, const Deliveries::Progress& progress, std::uint64_t now_ns);
  void linger_on(SocketId id, const Deliveries::Progress& delivered, std::uint64_t now_ns);
  void arm_carried(std::vector<Carried>& sockets);
  void release(SocketId id);
  void reject(SocketId id);
  void end(SocketId id, DaemonCounter how, std::uint64_t now_ns);
  void give_up(SocketId id, DaemonCounter how, std::uint64_t now_ns);
  [[nodiscard]] SocketId first_to_end(Shares::Place place) const;
  void idle_is_over(SocketId id, std::uint64_t now_ns);
  void arm_idle(SocketId id, std::uint64_t now_ns);

  SocketOps& ops_;
  Deliveries& deliveries_;
  Capacity& capacity_;
  DaemonCounters& counters_;
  Shares& shares_;
  std::uint32_t max_time_ms_;
  std::vector<Slot> slots_;
  std::vector<SocketId> fresh_;
  std::size_t held_ = 0;
  DeadlineQueue idle_;
  DeadlineQueue cap_;
};

}  // namespace lingerd
