// SPDX-License-Identifier: Apache-2.0
// The intake: httpd's children connect here and send records. A peer is whoever the socket's
// permissions (and --allow-user) let in: nothing that it sends is trusted, and nothing that it
// sends harms another peer's sockets.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "lingerd/lingerer.h"
#include "lingerd/log_limiter.h"
#include "lingerd/offers.h"
#include "lingerd/record.h"
#include "lingerd/sockets.h"
#include "lingerd/unique_fd.h"

namespace lingerd {

class Intake {
 public:
  // `epoll_fd` gets the peers' registrations, tagged kNotASocket | their descriptor.
  Intake(Lingerer& lingerer, int epoll_fd, std::uint32_t max_peers);

  // From now on takes from these users only (empty: from everybody), and parts with peers of
  // others.
  void set_allowed(std::vector<uid_t> uids, std::uint64_t now_ns);

  // Accepts who waits at the listener (non-blocking), greets, and turns away the rest. False when
  // descriptors or memory have run out: the loop pauses accepting for a moment.
  [[nodiscard]] bool accept_peers(int listener_fd, std::uint64_t now_ns);

  // Takes what a peer has sent, up to a few batches. `quick` as in Lingerer::arrive. Returns how
  // many sockets arrived.
  std::size_t receive(int peer_fd, std::uint32_t epoll_events, std::uint64_t now_ns, bool quick);

  // Restart without loss: the peers' descriptors, and a peer that an earlier lingerd had greeted.
  [[nodiscard]] std::vector<int> descriptors() const;
  void readmit(UniqueFd fd, std::uint64_t now_ns);

  // Parts with the peers that have offered something and not begun it yet: it is theirs, and they
  // find out. For a successor, which would know nothing of it.
  void settle_offers(std::uint64_t now_ns);

  // Takes no more from anybody: nothing that a peer's send() has accepted gets lost.
  void close_all(std::uint64_t now_ns);

  [[nodiscard]] std::size_t peers() const { return peers_.size(); }

 private:
  enum class Complaint {
    kRecord,
    kDescriptor,
    kNoDescriptor,
    kExtra,
    kContent,
    kBegin,
    kDenied,
    kFull,
    kCount
  };
  struct Peer {
    UniqueFd fd;
    pid_t pid = 0;
    uid_t uid = 0;
    Offers offers;
  };
  struct Batch;

  void retire(Peer& peer, std::uint64_t now_ns);
  template <typename Leaves>
  void retire_those(Leaves leaves, std::uint64_t now_ns);
  void admit_peer(UniqueFd fd, std::uint64_t now_ns, bool greeted);
  int receive_batch(int peer_fd);
  bool take(Peer& peer, std::size_t index, std::uint64_t now_ns, bool quick);
  void take_offer(Peer& peer, UniqueFd& socket, UniqueFd& content, const Handoff& handoff,
                  bool truncated, std::uint64_t now_ns);
  void reject(const Peer& peer, Complaint complaint, const char* what, std::uint64_t now_ns);
  void complain(const Peer& peer, Complaint complaint, const char* what, std::uint64_t now_ns);
  [[nodiscard]] bool allowed(uid_t uid) const;

  Lingerer& lingerer_;
  int epoll_fd_;
  std::uint32_t max_peers_;
  std::vector<uid_t> allowed_uids_;
  std::unordered_map<int, Peer> peers_;
  LogLimiter limiters_[static_cast<std::size_t>(Complaint::kCount)];
};

}  // namespace lingerd
