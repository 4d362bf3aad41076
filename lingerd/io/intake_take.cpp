// SPDX-License-Identifier: Apache-2.0
// What the peers bring: each message is examined, and adopted or refused.
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "base/unique_fd.h"
#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/io/closer.h"
#include "lingerd/io/intake.h"
#include "lingerd/io/offers.h"
#include "lingerd/io/parking.h"
#include "lingerd/io/return_addresses.h"
#include "lingerd/io/sockets.h"

namespace lingerd {

// A message whose record is good.
struct Intake::Arrival {
  Handoff handoff;
  UniqueFd socket;       // its first descriptor,
  UniqueFd second;       // and its second; either may be missing
  bool extra = false;    // there were more
  bool lost = false;     // some of them didn't arrive
  bool lingers = false;  // set: it was taken, or what came instead of it
  std::uint64_t now_ns = 0;
  bool quick = false;
};

// One message of the batch. False: it brought no socket that lingers.
bool Intake::take(Peer& peer, std::size_t index, std::uint64_t now_ns, bool quick) {
  Arrival arrival;
  arrival.now_ns = now_ns;
  arrival.quick = quick;
  const std::span<const int> descriptors = batch_.descriptors(index);
  if (!descriptors.empty()) arrival.socket.reset(descriptors[0]);
  if (descriptors.size() > 1) arrival.second.reset(descriptors[1]);
  for (std::size_t i = 2; i < descriptors.size(); ++i) {
    closer().take(UniqueFd(descriptors[i]), peer.uid);
  }
  arrival.extra = descriptors.size() > 2;
  arrival.lost = batch_.lost_descriptors(index);
  DecodeResult result = decode(batch_.bytes(index), arrival.handoff);
  arrival.handoff.user = peer.uid;
  if (result == DecodeResult::kOk && batch_.was_longer(index)) result = DecodeResult::kWrongSize;
  const Refusal refusal = result == DecodeResult::kOk
                              ? take_kind(peer, arrival)
                              : Refusal{Complaint::kRecord, describe(result).data()};
  if (refusal.why != nullptr) {
    reject(peer, refusal.complaint, refusal.why, now_ns);
  } else {
    counters_[DaemonCounter::kFallbacksReported] +=
        std::min(arrival.handoff.fallbacks, kMostReported);
  }
  closer().take(std::move(arrival.socket), peer.uid);
  closer().take(std::move(arrival.second), peer.uid);
  return arrival.lingers;
}

Intake::Refusal Intake::take_kind(Peer& peer, Arrival& arrival) {
  switch (arrival.handoff.kind) {
    case RecordKind::kLinger: return take_linger(arrival);
    case RecordKind::kDeliver: return take_offer(peer, arrival);
    case RecordKind::kIdle: return take_idle(peer, arrival);
    case RecordKind::kWayBack: return take_way_back(peer, arrival);
    case RecordKind::kBegin:
      arrival.lingers = !arrival.socket && !arrival.lost &&
                        peer.offers.begin(arrival.handoff.ticket, arrival.now_ns);
      if (arrival.lingers) return {};
  }
  return {Complaint::kBegin, "to begin what wasn't offered"};
}

Intake::Refusal Intake::take_linger(Arrival& arrival) {
  if (!arrival.socket) {
    return {Complaint::kNoDescriptor,
            arrival.lost ? "a record whose descriptor got lost: this process has too many open, or "
                           "a policy (SELinux) took it away"
                         : "a record without a descriptor"};
  }
  if (arrival.second || arrival.lost) {
    return {Complaint::kExtra, "a record with the wrong number of descriptors"};
  }
  SocketId id = 0;
  if (!KernelSockets::adopt(arrival.socket, id)) {
    return {Complaint::kDescriptor, "a descriptor that is no connected TCP socket"};
  }
  lingerer_.arrive(id, arrival.handoff, arrival.now_ns, arrival.quick);
  arrival.lingers = true;
  return {};
}

// A delivery is looked at, and the peer told what came of it. An answer that doesn't get through is
// the same to the peer as none.
Intake::Refusal Intake::take_offer(Peer& peer, Arrival& arrival) {
  Answer answer;
  answer.ticket = arrival.handoff.ticket;
  Refusal refusal;
  if (arrival.extra || arrival.lost || !arrival.socket || !arrival.second) {
    refusal = {Complaint::kContent,
               arrival.extra  ? "a delivery with more than its two descriptors"
               : arrival.lost ? "a delivery whose descriptors got lost, wholly or in part: this "
                                "process has too many open, or a policy (SELinux) took them away"
                              : "a delivery without its two descriptors"};
  } else if (!KernelSockets::is_clients(arrival.socket.get())) {
    refusal = {Complaint::kDescriptor, "a descriptor that is no connected TCP socket"};
  } else {
    answer.acceptance =
        peer.offers.take(arrival.socket, arrival.second, arrival.handoff, arrival.now_ns);
    if (answer.acceptance == Acceptance::kUnfit) {
      refusal = {Complaint::kContent,
                 "a response's rest that is neither a sealed memfd nor a file of one of this "
                 "machine's own file systems open for reading only, or that is too short"};
    }
  }
  if (answer.acceptance != Acceptance::kAccepted) arrival.handoff.fallbacks = 0;
  (void)send(peer.fd.get(), &answer, sizeof answer, MSG_DONTWAIT | MSG_NOSIGNAL);
  return refusal;
}

// An idle connection; one that can't be parked lingers instead.
Intake::Refusal Intake::take_idle(const Peer& peer, Arrival& arrival) {
  if (!arrival.socket) {
    return {Complaint::kNoDescriptor, "an idle connection whose descriptor got lost"};
  }
  SocketId id = 0;
  if (!KernelSockets::adopt(arrival.socket, id)) {
    return {Complaint::kDescriptor, "a descriptor that is no connected TCP socket"};
  }
  const bool has_room = capacity_.make_room_for(peer.uid, 1, arrival.now_ns);
  Handoff& handoff = arrival.handoff;
  using Verdict = Parking::Verdict;
  Verdict verdict = Verdict::kNoName;
  if (has_room && arrival.second && !arrival.extra && !arrival.lost) {
    verdict = parking_.arrive(id, arrival.second, handoff, arrival.now_ns);
  }
  if (verdict == Verdict::kGood) return {};
  // The socket is good: its client gets an end.
  shutdown(static_cast<int>(id), SHUT_WR);
  lingerer_.arrive(id, handoff, arrival.now_ns, true);
  arrival.lingers = true;
  if (!has_room) return {};  // it is counted where it ends
  return {Complaint::kContent,
          arrival.extra  ? "an idle connection with more than its two descriptors"
          : arrival.lost ? "an idle connection whose way back got lost: this process has too many "
                           "open, or a policy (SELinux) took it away"
                         : ReturnAddresses::describe(verdict)};
}

// What a peer will park connections with, tried before there is any. An answer that doesn't get
// through is the same to the peer as none.
Intake::Refusal Intake::take_way_back(Peer& peer, Arrival& arrival) {
  Answer answer;
  answer.ticket = arrival.handoff.ticket;
  using Verdict = Parking::Verdict;
  const Verdict verdict =
      arrival.socket ? peer.way_back.take(arrival.socket, peer.uid) : Verdict::kNoName;
  switch (verdict) {
    case Verdict::kGood: answer.acceptance = Acceptance::kAccepted; break;
    case Verdict::kNoName: answer.acceptance = Acceptance::kUnfit; break;
    case Verdict::kTooMany: answer.acceptance = Acceptance::kNoRoom; break;
    case Verdict::kDenied: answer.acceptance = Acceptance::kDenied; break;
  }
  (void)send(peer.fd.get(), &answer, sizeof answer, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (verdict == Verdict::kGood) return {};
  return {Complaint::kContent, ReturnAddresses::describe(verdict)};
}

}  // namespace lingerd
