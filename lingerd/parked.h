// SPDX-License-Identifier: Apache-2.0
// Parking: keep-alive connections with nothing to read wait here for their next request, and go
// back to httpd with it. Owns the sockets that it was given, by number. Pure: sockets are reached
// through ParkOps, the time is an argument.
//
// A connection's stay:  arrive → waiting ─┬→ returned (its next request came)
//                                         ├→ returning → returned, or failed after kReturnLimitMs
//                                         ├→ expired (KeepAliveTimeout): FIN, and it lingers
//                                         └→ closed by the client
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "lingerd/carry.h"
#include "lingerd/counters.h"
#include "lingerd/deadlines.h"
#include "lingerd/record.h"

namespace lingerd {

// One of httpd's private listeners, as ParkOps numbers them.
using AddressId = std::uint32_t;

// How long the way back may fail (httpd's listen queue is full) before the connection is closed, as
// an idle one may be at any time: RFC 9112, 9.5.
inline constexpr std::uint32_t kReturnLimitMs = 10'000;

// The system's side.
class ParkOps {
 public:
  enum class Peek {
    kNothing,
    kBytes,   // a request, or its beginning
    kClosed,  // the client's FIN or RST, and nothing before it
  };
  enum class SendBack {
    kSent,   // it is httpd's
    kLater,  // the listen queue is full, or this process is short of something
    kGone,   // nobody listens there any more, nor ever will
  };

  virtual ~ParkOps() = default;
  // Reports the socket once, with `generation`, when it has something to read. False: the system
  // refuses. `again`: it has been reported before.
  [[nodiscard]] virtual bool watch(SocketId id, std::uint32_t generation, bool again) = 0;
  [[nodiscard]] virtual Peek peek(SocketId id) = 0;
  [[nodiscard]] virtual SendBack send_back(SocketId id, AddressId to, const Return& back) = 0;
  // The socket stays with its client no longer: closed, or on to its linger with a FIN.
  virtual void close(SocketId id) = 0;
  virtual void linger(SocketId id, const Handoff& handoff, std::uint64_t now_ns) = 0;
  // An address is used by one connection fewer.
  virtual void release(AddressId address) = 0;
};

class Parked {
 public:
  // `counters` are the daemon's, of which this one keeps those of parking.
  Parked(ParkOps& ops, DaemonCounters& counters) : ops_(ops), counters_(counters) {}

  // Takes over an idle connection. `handoff`: of kIdle; its time is when the waiting began, in
  // httpd.
  void arrive(SocketId id, AddressId address, const Handoff& handoff, std::uint64_t now_ns);

  // A watched socket has something to read. Stale generations are ignored.
  void ready(SocketId id, std::uint32_t generation, std::uint64_t now_ns);

  // Acts on deadlines that have come, at most `budget` of them.
  void expire(std::uint64_t now_ns, std::size_t budget);
  [[nodiscard]] std::optional<MonoMillis> next_deadline() const;

  // Closes the connections nearest their timeouts until at most `most` are left.
  void shrink_to(std::size_t most, std::uint64_t now_ns);

  // Nobody listens at this address any more: closes what was to go back there.
  void abandon(AddressId address, std::uint64_t now_ns);

  // Ends everything, as if its time had come; requests that are there already still go back.
  void end_all(std::uint64_t now_ns);

  // Restart without loss, as of Lingerer.
  struct Carried {
    SocketId id = 0;
    AddressId address = 0;
    CarriedParking state;
  };
  [[nodiscard]] std::vector<Carried> carry_out() const;
  // `counters` are carried in already.
  void carry_in(std::vector<Carried> parked, std::uint64_t now_ns);

  [[nodiscard]] std::size_t size() const { return held_; }

 private:
  enum class Phase : std::uint8_t { kNone, kWaiting, kReturning };
  struct Slot {
    MonoMillis arrived = 0;
    MonoMillis returning_since = 0;
    std::uint32_t generation = 0;
    std::uint32_t keepalives = 0;
    std::uint32_t keepalive_ms = 0;
    std::uint32_t idle_ms = 0;  // of the linger behind it
    std::uint32_t cap_ms = 0;
    std::uint32_t retry_ms = 0;
    AddressId address = 0;
    Phase phase = Phase::kNone;
  };

  Slot& open_slot(SocketId id);
  void go_back(SocketId id, std::uint64_t now_ns);
  void try_again_later(SocketId id, std::uint64_t now_ns);
  void time_is_up(SocketId id, DaemonCounter how, std::uint64_t now_ns);
  void leave(SocketId id, DaemonCounter how, std::uint64_t now_ns);
  void part(SocketId id, DaemonCounter how, std::uint64_t now_ns);

  ParkOps& ops_;
  DaemonCounters& counters_;
  std::vector<Slot> slots_;
  std::size_t held_ = 0;
  DeadlineQueue timeouts_{0};
  DeadlineQueue retries_{0};
};

}  // namespace lingerd
