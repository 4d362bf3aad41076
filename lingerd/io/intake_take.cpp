// SPDX-License-Identifier: Apache-2.0
// What the peers bring: each message is examined, and adopted or refused.
#include <sys/socket.h>

#include <algorithm>
#include <array>
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
namespace {

constexpr char kIdleLost[] =
    "an idle connection whose way back got lost: this process has too many open, or a policy "
    "(SELinux) took it away";
constexpr char kRequestLost[] =
    "a connection with a request whose way back got lost: this process has too many open, or a "
    "policy (SELinux) took it away";
constexpr char kRequestExtra[] = "a connection with a request and more than two descriptors";
constexpr char kNoClients[] = "a descriptor that is no connected TCP socket";

}  // namespace

// A message whose record is good.
struct Intake::Arrival {
  Handoff handoff;
  UniqueFd socket;                             // its first descriptor,
  UniqueFd second;                             // and its second; either may be missing
  Refusal unfit;                               // its descriptors aren't those of its kind
  bool lingers = false;                        // set: it was taken, or what came instead of it
  Acceptance acceptance = Acceptance::kUnfit;  // set: what the peer is told, if it is
  std::uint64_t now_ns = 0;
  bool quick = false;
};

// What becomes of a record, and what is said of one whose descriptors aren't those of its kind.
struct Intake::Kind {
  RecordKind kind;
  Refusal missing;
  Refusal lost;  // by this process
  Refusal extra;
  Refusal (Intake::*take)(Peer& peer, Arrival& arrival);
  bool answered = false;

  // `count` of them have come; if some were `lost`, at least one more was sent.
  [[nodiscard]] Refusal judge(std::size_t count, bool some_lost) const {
    const std::size_t wanted = kRecordForms[index_of(kind)].descriptors;
    if (count + (some_lost ? 1 : 0) > wanted) return extra;
    if (some_lost) return lost;
    return count < wanted ? missing : Refusal{};
  }
};

// As kRecordForms has them.
const std::array<Intake::Kind, kRecordForms.size()> Intake::kKinds{{
    {.kind = RecordKind::kLinger,
     .missing = {Complaint::kNoDescriptor, "a record without a descriptor"},
     .lost = {Complaint::kNoDescriptor,
              "a record whose descriptor got lost: this process has too many open, or a policy "
              "(SELinux) took it away"},
     .extra = {Complaint::kExtra, "a record with the wrong number of descriptors"},
     .take = &Intake::take_linger},
    {.kind = RecordKind::kDeliver,
     .missing = {Complaint::kContent, "a delivery without its two descriptors"},
     .lost = {Complaint::kContent,
              "a delivery whose descriptors got lost, wholly or in part: this process has too many "
              "open, or a policy (SELinux) took them away"},
     .extra = {Complaint::kContent, "a delivery with more than its two descriptors"},
     .take = &Intake::take_offer,
     .answered = true},
    {.kind = RecordKind::kIdle,
     .missing = {Complaint::kContent, ReturnAddresses::describe(Parking::Verdict::kNoName)},
     .lost = {Complaint::kContent, kIdleLost},
     .extra = {Complaint::kContent, "an idle connection with more than its two descriptors"},
     .take = &Intake::take_stay},
    {.kind = RecordKind::kWayBack,
     .missing = {Complaint::kContent, ReturnAddresses::describe(Parking::Verdict::kNoName)},
     .lost = {Complaint::kContent,
              "a way back whose descriptor got lost: this process has too many open, or a policy "
              "(SELinux) took it away"},
     .extra = {Complaint::kContent, "a way back with more than its one descriptor"},
     .take = &Intake::take_way_back,
     .answered = true},
    {.kind = RecordKind::kRequest,
     .missing = {Complaint::kContent, ReturnAddresses::describe(Parking::Verdict::kNoName)},
     .lost = {Complaint::kContent, kRequestLost},
     .extra = {Complaint::kContent, kRequestExtra},
     .take = &Intake::take_stay},
    {.kind = RecordKind::kBegin,
     .missing = {},
     .lost = {},
     .extra = {Complaint::kBegin, "to begin a delivery with a record that brings descriptors"},
     .take = &Intake::take_begin},
}};

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
  DecodeResult result = decode(batch_.bytes(index), arrival.handoff);
  arrival.handoff.user = peer.uid;
  if (result == DecodeResult::kOk && batch_.was_longer(index)) result = DecodeResult::kWrongSize;
  Refusal refusal{Complaint::kRecord, describe(result).data()};
  if (result == DecodeResult::kOk) {
    const Kind& kind = kKinds[index_of(arrival.handoff.kind)];
    arrival.unfit = kind.judge(descriptors.size(), batch_.lost_descriptors(index));
    refusal = take_as(kind, peer, arrival);
  }
  if (refusal) {
    reject(peer, refusal.complaint, refusal.why, now_ns);
  } else {
    counters_[DaemonCounter::kFallbacksReported] +=
        std::min(arrival.handoff.fallbacks, kMostReported);
  }
  closer().take(std::move(arrival.socket), peer.uid);
  closer().take(std::move(arrival.second), peer.uid);
  return arrival.lingers;
}

// Where the peer waits to hear what came of it, an answer that doesn't get through is the same to
// it as none.
Intake::Refusal Intake::take_as(const Kind& kind, Peer& peer, Arrival& arrival) {
  const Refusal refusal = (this->*kind.take)(peer, arrival);
  if (!kind.answered) return refusal;
  Answer answer;
  answer.ticket = arrival.handoff.ticket;
  answer.acceptance = arrival.acceptance;
  if (answer.acceptance != Acceptance::kAccepted) arrival.handoff.fallbacks = 0;
  (void)send(peer.fd.get(), &answer, sizeof answer, MSG_DONTWAIT | MSG_NOSIGNAL);
  return refusal;
}

Intake::Refusal Intake::take_linger(Peer& /*peer*/, Arrival& arrival) {
  if (arrival.unfit) return arrival.unfit;
  SocketId id = 0;
  if (!KernelSockets::adopt(arrival.socket, id)) return {Complaint::kDescriptor, kNoClients};
  lingerer_.arrive(id, arrival.handoff, arrival.now_ns, arrival.quick);
  arrival.lingers = true;
  return {};
}

Intake::Refusal Intake::take_offer(Peer& peer, Arrival& arrival) {
  if (arrival.unfit) return arrival.unfit;
  if (!KernelSockets::is_clients(arrival.socket.get())) return {Complaint::kDescriptor, kNoClients};
  arrival.acceptance =
      peer.offers.take(arrival.socket, arrival.second, arrival.handoff, arrival.now_ns);
  if (arrival.acceptance != Acceptance::kUnfit) return {};
  return {
      Complaint::kContent,
      "a response's rest that is neither a sealed memfd nor a file of one of this machine's own "
      "file systems open for reading only, or that is too short"};
}

Intake::Refusal Intake::take_begin(Peer& peer, Arrival& arrival) {
  if (arrival.unfit) return arrival.unfit;
  arrival.lingers = peer.offers.begin(arrival.handoff.ticket, arrival.now_ns);
  if (arrival.lingers) return {};
  return {Complaint::kBegin, "to begin what wasn't offered"};
}

// An idle connection, or one whose request is coming; one that can't be held lingers instead.
Intake::Refusal Intake::take_stay(Peer& peer, Arrival& arrival) {
  if (!arrival.socket) {
    return {Complaint::kNoDescriptor,
            arrival.handoff.kind == RecordKind::kIdle
                ? "an idle connection whose descriptor got lost"
                : "a connection with a request whose descriptor got lost"};
  }
  SocketId id = 0;
  if (!KernelSockets::adopt(arrival.socket, id)) return {Complaint::kDescriptor, kNoClients};
  const bool has_room = capacity_.make_room_for(peer.uid, 1, arrival.now_ns);
  Handoff& handoff = arrival.handoff;
  using Verdict = Parking::Verdict;
  Verdict verdict = Verdict::kNoName;
  if (has_room && !arrival.unfit) {
    verdict = parking_.arrive(id, arrival.second, handoff, arrival.now_ns);
  }
  if (verdict == Verdict::kGood) return {};
  // The socket is good: its client gets an end.
  shutdown(static_cast<int>(id), SHUT_WR);
  lingerer_.arrive(id, handoff, arrival.now_ns, true, has_room);
  arrival.lingers = true;
  if (!has_room) return {};  // it is counted where it ends
  return arrival.unfit ? arrival.unfit
                       : Refusal{Complaint::kContent, ReturnAddresses::describe(verdict)};
}

// What a peer will park connections with, tried before there is any.
Intake::Refusal Intake::take_way_back(Peer& peer, Arrival& arrival) {
  if (arrival.unfit) return arrival.unfit;
  using Verdict = Parking::Verdict;
  const Verdict verdict = peer.way_back.take(arrival.socket, peer.uid);
  switch (verdict) {
    case Verdict::kGood: arrival.acceptance = Acceptance::kAccepted; return {};
    case Verdict::kNoName: arrival.acceptance = Acceptance::kUnfit; break;
    case Verdict::kTooMany: arrival.acceptance = Acceptance::kNoRoom; break;
    case Verdict::kDenied: arrival.acceptance = Acceptance::kDenied; break;
  }
  return {Complaint::kContent, ReturnAddresses::describe(verdict)};
}

}  // namespace lingerd
