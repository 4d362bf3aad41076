// SPDX-License-Identifier: Apache-2.0
// The lingering close of every socket: arrival, drain, deadlines, end. Owns the sockets that it was
// given, by number, and the daemon's counters of them. Pure: sockets are reached through SocketOps,
// the time is an argument.
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
#include <utility>
#include <vector>

#include "lingerd/carry.h"
#include "lingerd/counters.h"
#include "lingerd/deadlines.h"
#include "lingerd/delivery.h"
#include "lingerd/drain.h"
#include "lingerd/record.h"

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
  // The same as soon as it takes data; and back to readable, which can't fail.
  [[nodiscard]] virtual bool watch_writable(SocketId, std::uint32_t /*generation*/) {
    return false;
  }
  virtual void watch_readable_again(SocketId, std::uint32_t /*generation*/) {}
  // Sends some of a content, without waiting; a few hundred kilobytes at most.
  [[nodiscard]] virtual PushResult push(SocketId, const Content&) { return {}; }
  virtual void send_fin(SocketId) {}
  virtual void close_content(SocketId /*content*/) {}
  // Closes it; `watched` says whether watch() succeeded. The number may come back for another one.
  virtual void close(SocketId id, bool watched) = 0;
};

class Lingerer {
 public:
  Lingerer(SocketOps& ops, std::uint32_t max_connections, std::uint32_t max_time_ms);

  // Takes over a socket, evicting others at the limit: lingers first, because a delivery's end is a
  // response lost. A delivery has two descriptors and counts as two. `quick`: look at it now; else
  // it waits, fresh, for settle(). It enters the counters at its first look: as taken over, or, if
  // it isn't a connected socket at all, as rejected.
  void arrive(SocketId id, const Handoff& handoff, std::uint64_t now_ns, bool quick);

  // The same for a socket that comes with the rest of a response: that is sent first, then the FIN.
  void arrive_with(SocketId id, const Content& content, const Handoff& handoff,
                   std::uint64_t now_ns);

  // Sets memory and descriptors aside for a delivery that is offered. False: there is no room.
  // Deliveries may have seven of eight descriptors, so that a linger which needs room never ends
  // one. give_back() before arrive_with(), or when the offer is off.
  [[nodiscard]] bool set_aside(std::uint64_t memory, std::uint64_t now_ns);
  void give_back(std::uint64_t memory);

  // Looks at every fresh socket: ends those whose client has closed, watches the others.
  void settle(std::uint64_t now_ns);

  // A watched socket is readable, or if it has a delivery, writable. Stale generations (the socket
  // has ended meanwhile) are ignored.
  void ready(SocketId id, std::uint32_t generation, std::uint64_t now_ns);

  // Acts on deadlines that have come, at most `budget` of them.
  void expire(std::uint64_t now_ns, std::size_t budget);
  [[nodiscard]] std::optional<MonoMillis> next_deadline() const;

  // Ends the lingers nearest their deadlines until `max_connections` are left.
  void set_limits(std::uint32_t max_connections, std::uint32_t max_time_ms, std::uint64_t now_ns);
  void set_offload_limits(std::uint64_t memory, std::uint64_t min_rate);

  // Ends everything, as if its cap had come.
  void end_all(std::uint64_t now_ns);

  // Restart without loss. carry_out() says what the next lingerd must know of each watched socket;
  // settle() first, so that none is fresh. carry_in() takes that over, before anything arrives:
  // sockets without a state of their own go through arrive().
  struct Carried {
    SocketId id = 0;
    CarriedSocket state;
    SocketId content = 0;  // the descriptor of what it has still to deliver, if it has
  };
  [[nodiscard]] std::vector<Carried> carry_out();
  void carry_in(const DaemonCounters& counters, std::vector<Carried> sockets, std::uint64_t now_ns);

  [[nodiscard]] std::size_t size() const { return held_; }  // fresh ones included
  [[nodiscard]] bool has_fresh() const { return !fresh_.empty(); }
  // Hand-off of the oldest linger (deliveries, which may take their time, don't count),
  // CLOCK_MONOTONIC ns; 0: none.
  [[nodiscard]] std::uint64_t oldest_ns() const;
  [[nodiscard]] const DaemonCounters& counters() const { return counters_; }
  // Parking keeps counters among them too.
  [[nodiscard]] DaemonCounters& shared_counters() { return counters_; }
  // Descriptors of sockets and of contents; what a limit counts.
  [[nodiscard]] std::size_t descriptors() const {
    return held_ + deliveries_.size() + 2 * set_aside_;
  }
  // Evicts until there is room for so many.
  void make_room(std::size_t room, std::uint64_t now_ns);
  void count_rejected() { ++counters_[DaemonCounter::kRejected]; }
  void count_reported(std::uint32_t n) { counters_[DaemonCounter::kFallbacksReported] += n; }
  void note_peers(std::size_t n) { counters_[DaemonCounter::kPeers] = n; }

 private:
  enum class Phase : std::uint8_t { kNone, kFresh, kDelivering, kWatched };
  struct Slot {
    MonoMillis started = 0;  // of the hand-off
    std::uint32_t generation = 0;
    Patience patience;
    Phase phase = Phase::kNone;
    bool rescued = false;
  };
  static_assert(sizeof(Slot) + 2 * 16 <= 64, "a lingering socket costs at most 64 bytes");

  enum class Look { kOpen, kEnded };
  Look look(SocketId id, std::uint64_t now_ns);
  void count_bytes(SocketId id, std::uint64_t bytes);
  Slot& open_slot(SocketId id, const Handoff& handoff, std::uint64_t now_ns);
  void settle_one(SocketId id, std::uint64_t now_ns);
  void carry_in_one(const Carried& carried, std::uint64_t now_ns);
  void enter_queue();
  void note_unsent(SocketId id);
  void arm_stall(SocketId id, std::uint64_t now_ns);
  void push(SocketId id, std::uint64_t now_ns);
  void delivered(SocketId id, std::uint64_t now_ns);
  void break_off(SocketId id, DaemonCounter why, DaemonCounter how, std::uint64_t now_ns);
  void delivery_time_is_up(SocketId id, std::uint64_t now_ns, bool window);
  void release(SocketId id);
  void reject(SocketId id);
  void end(SocketId id, DaemonCounter how, std::uint64_t now_ns);
  void give_up(SocketId id, DaemonCounter how, std::uint64_t now_ns);
  [[nodiscard]] SocketId first_to_end() const;
  void idle_is_over(SocketId id, std::uint64_t now_ns);
  void arm_idle(SocketId id, std::uint64_t now_ns);

  SocketOps& ops_;
  std::uint32_t max_connections_;
  std::uint32_t max_time_ms_;
  DaemonCounters counters_;
  std::vector<Slot> slots_;
  std::vector<SocketId> fresh_;
  std::size_t held_ = 0;
  std::size_t set_aside_ = 0;  // for deliveries, of two descriptors each
  DeadlineQueue idle_;
  DeadlineQueue cap_;
  DeadlineQueue stall_;  // of deliveries, which have neither idle time nor cap
  DeadlineQueue rate_;   // the ends of their windows
  Deliveries deliveries_{counters_};
};

}  // namespace lingerd
