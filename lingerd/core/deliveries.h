// SPDX-License-Identifier: Apache-2.0
// Sends the rests of responses on: offers, for which room is set aside; pushing; two clocks (one
// that any progress resets, and the windows of --min-rate); the end. The sockets are the lingerer's
// all the while, the contents this room's. What becomes of a delivery is a value that the lingerer
// acts on. Pure: sockets are reached through DeliveryOps, the time is an argument.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/capacity.h"
#include "lingerd/core/carry.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/delivery.h"
#include "lingerd/core/shares.h"

namespace lingerd {

// The system's side of a socket that is delivering.
class DeliveryOps {
 public:
  virtual ~DeliveryOps() = default;
  // Bytes that the client hasn't acknowledged yet.
  [[nodiscard]] virtual std::uint64_t unsent(SocketId id) = 0;
  // Reports the socket, with `generation`, as soon as it takes data. False: the system refuses.
  [[nodiscard]] virtual bool watch_writable(SocketId id, std::uint32_t generation) = 0;
  // Reports it when it is readable instead; no longer; as soon as it takes data again. None of them
  // can fail.
  virtual void watch_readable_again(SocketId id, std::uint32_t generation) = 0;
  virtual void stop_watching(SocketId id, std::uint32_t generation) = 0;
  virtual void watch_writable_again(SocketId id, std::uint32_t generation) = 0;
  // Sends some of a content, without waiting; a few hundred kilobytes at most.
  [[nodiscard]] virtual PushResult push(SocketId id, const Content& content) = 0;
  virtual void send_fin(SocketId id) = 0;
  virtual void close_content(SocketId content) = 0;
};

class Deliveries {
 public:
  using User = Capacity::User;

  // `counters` are the daemon's, of which this one keeps those of offers and deliveries.
  Deliveries(DeliveryOps& ops, Capacity& capacity, DaemonCounters& counters);
  Deliveries(const Deliveries&) = delete;
  Deliveries& operator=(const Deliveries&) = delete;

  // Bytes of memory in all; bytes a second that each must move.
  void set_limits(std::uint64_t memory, std::uint64_t min_rate);

  // Sets memory and descriptors aside for a delivery that is offered. False: there is no room.
  // Deliveries may have seven of eight descriptors, so that a linger which needs room never ends
  // one, and what a single user offers a quarter. give_back() before begin(), or when the offer is
  // off.
  [[nodiscard]] bool set_aside(std::uint64_t memory, User user, std::uint64_t now_ns);
  void give_back(std::uint64_t memory, User user);

  // What has become of one. But for kUnderWay it is over, and its content closed.
  struct Progress {
    enum class State {
      kUnderWay,
      kDelivered,  // the FIN is out, and the socket reported when it is readable
      kBrokenOff,
    };
    State state = State::kUnderWay;
    DaemonCounter how = DaemonCounter::kClosedByReset;  // broken off: how its socket ends
    std::uint32_t idle_ms = 0;                          // delivered: of the linger behind it
    std::uint32_t cap_ms = 0;
  };

  // False: the socket can't be watched, and it is over. Else push() is next.
  [[nodiscard]] bool begin(SocketId id, std::uint32_t generation, const Content& content,
                           const Handoff& handoff, std::uint64_t now_ns);
  [[nodiscard]] Progress push(SocketId id, std::uint64_t now_ns);
  // Its socket is reported.
  [[nodiscard]] Progress ready(SocketId id, std::uint64_t now_ns);
  void abort(SocketId id) { end(id, DaemonCounter::kDeliveryAborted); }

  // The next one whose deadline has come. Nothing: there is none.
  struct Judged {
    SocketId id = 0;
    Progress progress;
  };
  [[nodiscard]] std::optional<Judged> judge_next(std::uint64_t now_ns);
  [[nodiscard]] std::optional<MonoMillis> next_deadline() const;
  // The one that has stood still for longest.
  [[nodiscard]] std::optional<SocketId> slowest() const;

  // Restart without loss, as of Lingerer, which carries the sockets. After resume(), the deadlines
  // are set in their order.
  void carry_out(SocketId id, CarriedSocket& state) const;
  void resume(SocketId id, std::uint32_t generation, Delivery delivery);
  void resume_window(SocketId id, const CarriedSocket& state);
  void resume_stall(SocketId id, const CarriedSocket& state);
  [[nodiscard]] bool watch_resumed(SocketId id);

  [[nodiscard]] std::size_t size() const { return books_.size(); }

  // What each socket costs here, up to the highest number that has ever delivered.
  static constexpr std::size_t kBytesEach = 3 * DeadlineQueue::kBytesEach;

 private:
  Progress delivered(SocketId id);
  Progress break_off(SocketId id, DaemonCounter why, DaemonCounter how);
  Progress judge_window(SocketId id, std::uint64_t now_ns);
  Progress judge_stall(SocketId id, std::uint64_t now_ns);
  void note_unsent(SocketId id, Delivery& delivery);
  void arm_stall(SocketId id, const Delivery& delivery, std::uint64_t now_ns);
  void end(SocketId id, DaemonCounter how);

  DeliveryOps& ops_;
  Capacity& capacity_;
  DaemonCounters& counters_;
  DeliveryBooks books_{counters_};
  std::size_t set_aside_ = 0;  // offers, of two descriptors each
  struct Aside {
    std::size_t count = 0;
    Shares::Place place = 0;
  };
  std::unordered_map<User, Aside> set_aside_of_;
  DeadlineQueue stall_{0};
  DeadlineQueue rate_{0};   // the ends of their windows
  DeadlineQueue tired_{0};  // of those that say they take data, and don't
};

}  // namespace lingerd
