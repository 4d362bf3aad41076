// SPDX-License-Identifier: Apache-2.0
// Parking: keep-alive connections with nothing to read wait here for their next request, and go
// back to httpd with it; and connections whose request is still coming (awaited.h) for the rest of
// it. Owns the sockets that it was given, by number. Pure: sockets are reached
// through ParkOps, the time is an argument.
//
// A connection's stay:  arrive → waiting ─┬→ returned (its next request came)
//                                         ├→ returning (in line: httpd's listen queue is full)
//                                         │  → returned, or failed after kReturnLimitMs
//                                         ├→ expired (KeepAliveTimeout): FIN, and it lingers
//                                         └→ closed by the client
// A request that isn't there in time, or that can't be waited for any longer, goes back as well,
// and httpd is told; so nothing of it expires here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/awaited.h"
#include "lingerd/core/capacity.h"
#include "lingerd/core/carry.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/return_lines.h"
#include "lingerd/core/shares.h"

namespace lingerd {

// How long a connection that waits in line may see nobody taken (httpd's listen queue stays full)
// before it is closed, as an idle one may be at any time: RFC 9112, 9.5. While httpd takes any, it
// waits for its turn.
inline constexpr std::uint32_t kReturnLimitMs = 10'000;

// How long a goodbye over TLS waits for the FIN that belongs to it: clients send both in two calls.
// Without one it goes to httpd, which answers it.
inline constexpr std::uint32_t kFinWaitMs = 20;

// Attempts to give connections back in one call of expire: each is some system calls.
inline constexpr std::size_t kReturnsAtOnce = 128;

// The system's side.
class ParkOps {
 public:
  enum class Peek {
    kNothing,
    kBytes,    // a request, or its beginning
    kGoodbye,  // TLS's (goodbye.h), without a FIN behind it yet
    kClosed,   // the client's FIN or RST, and nothing before it but TLS's goodbye
  };
  enum class SendBack {
    kSent,   // it is httpd's
    kLater,  // the listen queue is full, or this process is short of something
    kGone,   // nobody listens there any more, nor ever will
  };

  virtual ~ParkOps() = default;
  enum class Watch {
    kFirst,
    kAgain,   // it has been reported before
    kForFin,  // the same, and what is there to read is known
  };
  // Reports the socket once, with `generation`, when it has something to read, or the client's FIN
  // is there. False: the system refuses.
  [[nodiscard]] virtual bool watch(SocketId id, std::uint32_t generation, Watch how) = 0;
  [[nodiscard]] virtual Peek peek(SocketId id, bool over_tls) = 0;
  // Of a request that is coming: what is there, with as much of it as is asked for; and that the
  // socket is to be reported only when so many bytes are there, for which the kernel makes room, or
  // as many as it has room for.
  [[nodiscard]] virtual Arrived look(SocketId, std::size_t /*front*/) { return {}; }
  virtual void await(SocketId, std::uint64_t /*bytes*/) {}
  [[nodiscard]] virtual SendBack send_back(SocketId id, AddressId to, const Return& back) = 0;
  // For another process that sends connections home while this one stands still (guard.h): true
  // keeps it from this one until give_up, close or linger; false: it has gone home already.
  [[nodiscard]] virtual bool claim(SocketId) { return true; }
  virtual void give_up(SocketId) {}
  // The socket stays with its client no longer: closed, or on to its linger with a FIN.
  virtual void close(SocketId id) = 0;
  virtual void linger(SocketId id, const Handoff& handoff, std::uint64_t now_ns) = 0;
  // An address is used by one connection fewer.
  virtual void release(AddressId address) = 0;
};

class Parked final : private Capacity::Stays {
 public:
  // `counters` are the daemon's, of which this one keeps those of parking.
  Parked(ParkOps& ops, Capacity& capacity, DaemonCounters& counters)
      : ops_(ops), counters_(counters), shares_(capacity.shares()) {
    capacity.set(*this);
  }
  Parked(const Parked&) = delete;
  Parked& operator=(const Parked&) = delete;

  // Takes over an idle connection, or one whose request is coming, for which there is room.
  // `handoff`: of kIdle or kRequest; its time is when the waiting began, in httpd.
  void arrive(SocketId id, AddressId address, const Handoff& handoff, std::uint64_t now_ns);

  // One that came here after it had been sent home by somebody else.
  void count_home(RecordKind kind) {
    const bool idles = kind == RecordKind::kIdle;
    ++counters_[idles ? DaemonCounter::kParkedTotal : DaemonCounter::kGatherTotal];
    ++counters_[idles ? DaemonCounter::kReturned : DaemonCounter::kGatherEarly];
  }

  // Most bytes of bodies that may wait (--request-memory); what is beyond it goes back.
  void set_request_memory(std::uint64_t bytes) {
    counters_[DaemonCounter::kGatherMemoryLimit] = bytes;
  }

  // A watched socket has something to read. Stale generations are ignored.
  void ready(SocketId id, std::uint32_t generation, std::uint64_t now_ns);

  // Acts on deadlines that have come, at most `budget` of them, and moves those in line, at most
  // kReturnsAtOnce.
  void expire(std::uint64_t now_ns, std::size_t budget);
  [[nodiscard]] std::optional<MonoMillis> next_deadline() const;

  // Nobody listens at this address any more: closes what was to go back there.
  void abandon(AddressId address, std::uint64_t now_ns);

  // Lets go of what has been sent home by somebody else, as `is_home` knows.
  template <typename IsHome>
  std::size_t let_go(IsHome is_home, std::uint64_t now_ns) {
    std::size_t count = 0;
    for (SocketId id = 0; id < slots_.size(); ++id) {
      if (slots_[id].phase == Phase::kNone || !is_home(id)) continue;
      leave(id, DaemonCounter::kReturned, now_ns);
      ++count;
    }
    return count;
  }

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
  // The one nearest its timeout is closed, unless one that has a request goes home instead.
  void end_one_of(const Shares::Choice& user, std::uint64_t now_ns) override;

  enum class Phase : std::uint8_t { kNone, kWaiting, kReturning };
  struct Slot {
    Stay stay;
    std::uint32_t generation = 0;
    AddressId address = 0;
    Phase phase = Phase::kNone;
    bool over_tls = false;
    Shares::Place place = 0;  // of the user
  };

  Slot& open_slot(SocketId id, AddressId address, Shares::User user, const Stay& stay);
  [[nodiscard]] ParkOps::Peek peek(SocketId id) { return ops_.peek(id, slots_[id].over_tls); }
  void go_back(SocketId id, std::uint64_t now_ns);
  [[nodiscard]] ParkOps::SendBack send_back(SocketId id, std::uint64_t now_ns);
  void wait_for_fin(SocketId id, std::uint64_t now_ns);
  void line_up(SocketId id, std::uint64_t now_ns);
  void move_lines(std::uint64_t now_ns);
  void move_first(AddressId address, std::uint64_t now_ns);
  void time_is_up(SocketId id, DaemonCounter how, std::uint64_t now_ns);
  void leave(SocketId id, DaemonCounter how, std::uint64_t now_ns);
  void part(SocketId id, DaemonCounter how, std::uint64_t now_ns);

  // Of requests that are coming.
  void await(SocketId id, const Handoff& handoff, std::uint64_t now_ns);
  void look_at(SocketId id, bool again, std::uint64_t now_ns);
  void await_more(SocketId id, bool again, std::uint64_t now_ns);
  void give_back(SocketId id, Outcome outcome, std::uint64_t now_ns);
  [[nodiscard]] bool weigh(SocketId id, std::uint64_t bytes_before);
  void forget_request(SocketId id);
  [[nodiscard]] DaemonCounter end_of_request(SocketId id, DaemonCounter how) const;
  void carry_in_request(SocketId id, const CarriedParking& state);

  ParkOps& ops_;
  DaemonCounters& counters_;
  Shares& shares_;
  std::vector<Slot> slots_;
  std::size_t held_ = 0;
  DeadlineQueue timeouts_{0};
  ReturnLines lines_;
  std::unordered_map<SocketId, Awaited> requests_;
  AddressId served_last_ = 0;
};

}  // namespace lingerd
