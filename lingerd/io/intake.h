// SPDX-License-Identifier: Apache-2.0
// The intake: httpd's children connect here and send records. A peer is any process that the
// socket's permissions (and --allow-user) let in: nothing that it sends is trusted, and nothing
// that it sends harms another peer's sockets. What isn't adopted goes to the closer, its own
// connection, in which something may still lie, included.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/log_limiter.h"
#include "base/unique_fd.h"
#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/capacity.h"
#include "lingerd/core/deliveries.h"
#include "lingerd/core/lingerer.h"
#include "lingerd/io/batch.h"
#include "lingerd/io/offers.h"
#include "lingerd/io/parking.h"
#include "lingerd/io/sockets.h"

namespace lingerd {

class Intake {
 public:
  // `epoll_fd` gets the peers' registrations, tagged by peer_tag. `batch`:
  // messages a system call; the descriptor table keeps room for all that they may bring.
  Intake(Lingerer& lingerer, Deliveries& deliveries, Parking& parking, Capacity& capacity,
         DaemonCounters& counters, int epoll_fd, std::uint32_t max_peers, std::uint32_t batch);

  // From now on takes from these users only (empty: from everybody), and parts with peers of
  // others.
  void set_allowed(std::vector<uid_t> uids, std::uint64_t now_ns);

  // Accepts what waits at the listener (non-blocking), greets, and turns away the rest. False when
  // descriptors or memory have run out: the loop pauses accepting for a moment.
  [[nodiscard]] bool accept_peers(int listener_fd, std::uint64_t now_ns);

  // Takes what a peer has sent, up to a few batches. `quick` as in Lingerer::arrive. Returns how
  // many sockets arrived that linger.
  std::size_t receive(int peer_fd, std::uint32_t epoll_events, std::uint64_t now_ns, bool quick);

  // Each turn: listens again to peers that were held back while what they had sent was being
  // closed.
  void look_after_peers();
  // Now and then: ends offers that have waited for too long.
  void expire_offers(std::uint64_t now_ns);

  // Restart without loss: the peers' descriptors, and a peer that an earlier lingerd had greeted.
  [[nodiscard]] std::vector<int> descriptors() const;
  void readmit(UniqueFd fd, std::uint64_t now_ns);

  // Parts with the peers that have offered something and not begun it yet: it is theirs, and they
  // find out. For a successor, which would know nothing of it.
  void settle_offers(std::uint64_t now_ns);

  // Parts with the peers whose way back is forbidden by now: they announce it again, and hear so.
  void settle_ways_back(std::uint64_t now_ns);

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
    Parking::Announced way_back;
    bool held_back = false;  // not watched
    bool ending = false;     // has hung up; Batch tells its messages from the end
  };
  using Peers = std::unordered_map<int, Peer>;
  struct Refusal {
    Complaint complaint = Complaint::kRecord;
    const char* why = nullptr;  // nothing: it was taken
    explicit operator bool() const { return why != nullptr; }
  };
  enum class Read { kMore, kNothing, kEnd };

  [[nodiscard]] bool watch(int fd) const;
  [[nodiscard]] bool may_come(uid_t uid) const;
  void turn_away(Peer& peer, Verdict verdict, const Refusal& refusal, std::uint64_t now_ns);
  void hold_back(Peer& peer);
  Peers::iterator part_with(Peers::iterator peer);
  Read read_some(Peer& peer, bool hung_up, std::size_t& arrived, std::uint64_t now_ns, bool quick);
  void retire(Peer& peer, std::uint64_t now_ns);
  template <typename Leaves>
  void retire_those(Leaves leaves, std::uint64_t now_ns);
  void admit_peer(UniqueFd fd, std::uint64_t now_ns, bool greeted);
  struct Arrival;
  struct Kind;
  static const std::array<Kind, kRecordForms.size()> kKinds;
  bool take(Peer& peer, std::size_t index, std::uint64_t now_ns, bool quick);
  Refusal take_as(const Kind& kind, Peer& peer, Arrival& arrival);
  Refusal take_linger(Peer& peer, Arrival& arrival);
  Refusal take_offer(Peer& peer, Arrival& arrival);
  Refusal take_stay(Peer& peer, Arrival& arrival);
  Refusal take_way_back(Peer& peer, Arrival& arrival);
  Refusal take_begin(Peer& peer, Arrival& arrival);
  void reject(const Peer& peer, Complaint complaint, const char* what, std::uint64_t now_ns);
  void complain(const Peer& peer, Complaint complaint, const char* what, std::uint64_t now_ns);
  [[nodiscard]] bool allowed(uid_t uid) const;

  Lingerer& lingerer_;
  Deliveries& deliveries_;
  Parking& parking_;
  Capacity& capacity_;
  DaemonCounters& counters_;
  int epoll_fd_;
  std::uint32_t max_peers_;
  std::uint32_t batch_size_;
  std::vector<uid_t> allowed_uids_;
  Batch batch_;
  Peers peers_;
  std::unordered_map<uid_t, std::uint32_t> peers_of_;
  std::vector<int> held_back_;
  LogLimiter limiters_[static_cast<std::size_t>(Complaint::kCount)];
};

}  // namespace lingerd
