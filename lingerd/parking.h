// SPDX-License-Identifier: Apache-2.0
// Parking in system calls. Parked connections have an epoll of their own inside the loop's: a
// client that sends its next request waits for it, so the loop looks here even while it lets
// lingering sockets gather.
#pragma once

#include <cstdint>
#include <optional>

#include "lingerd/lingerer.h"
#include "lingerd/parked.h"
#include "lingerd/return_addresses.h"
#include "lingerd/unique_fd.h"

namespace lingerd {

class Parking final : private ParkOps {
 public:
  // Throws std::system_error if epoll can't be had.
  explicit Parking(Lingerer& lingerer);

  // Readable when a parked connection has something to read.
  [[nodiscard]] int epoll_fd() const { return epoll_.get(); }
  void dispatch(std::uint64_t now_ns);

  // Takes a socket that was adopted, and the descriptor of its way back. False: that is none, and
  // both are still the caller's.
  [[nodiscard]] bool arrive(SocketId id, UniqueFd& address, const Handoff& handoff,
                            std::uint64_t now_ns);

  // Closes what nobody waits for any more: httpd has stopped.
  void look_after_httpd(std::uint64_t now_ns);

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
  void carry_in(const std::vector<CarriedParking>& states, std::vector<UniqueFd> sockets,
                std::vector<UniqueFd> addresses, std::uint64_t now_ns);

 private:
  bool watch(SocketId id, std::uint32_t generation, bool again) override;
  Peek peek(SocketId id) override;
  SendBack send_back(SocketId id, AddressId to, const Return& back) override;
  void close(SocketId id) override;
  void linger(SocketId id, const Handoff& handoff, std::uint64_t now_ns) override;
  void release(AddressId address) override;
  void forget(SocketId id) const;

  Lingerer& lingerer_;
  UniqueFd epoll_;
  ReturnAddresses addresses_;
  Parked parked_;
};

}  // namespace lingerd
