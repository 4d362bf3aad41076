// SPDX-License-Identifier: Apache-2.0
// Parking in system calls. Parked connections have an epoll of their own inside the loop's: a
// client that sends its next request waits for it, so the loop looks here even while it lets
// lingering sockets gather.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/log_limiter.h"
#include "base/unique_fd.h"
#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/awaited.h"
#include "lingerd/core/capacity.h"
#include "lingerd/core/carry.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/lingerer.h"
#include "lingerd/core/parked.h"
#include "lingerd/core/return_lines.h"
#include "lingerd/core/shares.h"
#include "lingerd/io/guard.h"
#include "lingerd/io/return_addresses.h"

namespace lingerd {

class Parking final : private ParkOps {
 public:
  // Throws std::system_error if epoll can't be had.
  Parking(Lingerer& lingerer, Capacity& capacity, DaemonCounters& counters);

  // Readable when a parked connection has something to read.
  [[nodiscard]] int epoll_fd() const { return epoll_.get(); }
  void dispatch(std::uint64_t now_ns);

  // Takes a socket that was adopted, and the descriptor of its way back. But for kGood both are
  // still the caller's.
  using Verdict = ReturnAddresses::Verdict;
  [[nodiscard]] Verdict arrive(SocketId id, UniqueFd& address, const Handoff& handoff,
                               std::uint64_t now_ns);

  // A way back that a peer announces before it parks anything; kept as long as the peer.
  class Announced {
   public:
    explicit Announced(Parking& parking) : parking_(&parking) {}
    Announced(Announced&& other) noexcept
        : parking_(other.parking_), id_(std::exchange(other.id_, std::nullopt)) {}
    Announced& operator=(Announced&&) = delete;
    ~Announced() {
      if (id_) parking_->addresses_.release(*id_);
    }
    // But for kGood `address` is still the caller's, and nothing has changed.
    [[nodiscard]] Verdict take(UniqueFd& address, Shares::User user);
    // It was good, and lingerd may no longer connect there, or has to make room for another user's.
    [[nodiscard]] bool is_lost() const { return id_ && parking_->is_lost(*id_); }

   private:
    Parking* parking_;
    std::optional<AddressId> id_;
  };

  // Ends what waits to go back where that is forbidden by now, or where the way has been withdrawn
  // for another user's. True if there was such a way.
  bool end_lost_ways(std::uint64_t now_ns);

  // Closes what nobody waits for any more: httpd has stopped.
  void look_after_httpd(std::uint64_t now_ns);

  // Each turn: a sign of life to the guard, and letting go of what it has sent home meanwhile.
  void beat(std::uint64_t now_ns);
  // Before everything is packed, and before an exec: from here on only this process has what is
  // parked. It is started again when it is looked after httpd.
  void dismiss_guard(std::uint64_t now_ns);
  // Records that lie in queues still may have been sent home: they have to be read here.
  [[nodiscard]] bool guard_has_acted() const { return guard_.has_acted(); }

  [[nodiscard]] Parked& parked() { return parked_; }
  [[nodiscard]] const Parked& parked() const { return parked_; }

  // Restart without loss: the descriptors of ways back, in the order that CarriedParking counts
  // them in; and taking them in again, in that order.
  struct Luggage {
    std::vector<CarriedParking> states;
    std::vector<int> sockets;
    std::vector<int> addresses;
  };
  [[nodiscard]] Luggage carry_out() const;
  // Returns how many it has taken; sockets without a way back stay where they are.
  std::size_t carry_in(const std::vector<CarriedParking>& states, std::vector<UniqueFd>& sockets,
                       std::vector<UniqueFd> addresses, std::uint64_t now_ns);

 private:
  void take_left_copies();
  bool watch(SocketId id, std::uint32_t generation, Watch how) override;
  Peek peek(SocketId id, bool over_tls) override;
  Arrived look(SocketId id, std::size_t front) override;
  void await(SocketId id, std::uint64_t bytes) override;
  SendBack send_back(SocketId id, AddressId to, const Return& back) override;
  void close(SocketId id) override;
  void linger(SocketId id, const Handoff& handoff, std::uint64_t now_ns) override;
  void release(AddressId address) override;
  bool claim(SocketId id) override { return guard_.claim(id); }
  void give_up(SocketId id) override { guard_.give_up(id); }
  void let_guard_watch(const Parked::Carried& parked);
  void forget(SocketId id);
  [[nodiscard]] bool is_lost(AddressId id) const {
    return addresses_.denied(id) || addresses_.withdrawn(id);
  }
  void say_withdrawn(Shares::User owner, std::uint64_t now_ns);

  Lingerer& lingerer_;
  DaemonCounters& counters_;
  UniqueFd epoll_;
  ReturnAddresses addresses_;
  bool any_denied_ = false;
  LogLimiter withdrawn_limiter_;
  Guard guard_;
  std::vector<char> front_;        // what the last look has seen
  std::uint64_t home_ = 0;         // of what the guard has sent: let go of
  std::uint64_t home_unread_ = 0;  // and said
  Parked parked_;
};

}  // namespace lingerd
