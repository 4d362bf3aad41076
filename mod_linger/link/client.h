// SPDX-License-Identifier: Apache-2.0
// This child's connection to lingerd: opened when the child starts, shared by its threads, reopened
// when it breaks.
//
// A hand-off never waits for lingerd. Three things do, for at most 250 ms each: a child that starts
// and serves no client yet, for its greeting; the offer of a delivery, in a worker that otherwise
// waits for a slow client; and the announcement of a way back, once for each connection to lingerd.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>

#include "base/unique_fd.h"
#include "contract/record.h"
#include "contract/stats_page.h"
#include "mod_linger/link/obstacle.h"

namespace lingerd {

class Client {
 public:
  // How an attempt ended. `fresh`: found out just now, not remembered from an earlier attempt.
  struct Result {
    Obstacle obstacle = Obstacle::kNone;
    int error = 0;  // errno, 0 when a greeting said so
    bool fresh = false;
  };

  // `path` must outlive the client.
  explicit Client(const char* path);

  // Connects, and waits up to kGreetingWaitMs for the greeting.
  Result start(std::uint64_t now_ns);

  // Sends the socket. kNone: lingerd has it. Thread-safe. `times_up` is Tally::times_up().
  Result hand_off(int socket, const Handoff& handoff, std::uint64_t now_ns, std::uint64_t times_up);

  // The same for an idle connection, with what names its way back.
  Result park(int socket, int way_back, const Handoff& handoff, std::uint64_t now_ns,
              std::uint64_t times_up);

  // Has lingerd try the way back, once for each connection to it, before anything is parked there.
  // kNone: it is good, or this lingerd doesn't try. kRefused: lingerd can't use it, and says why in
  // its log; EACCES: it may not. Waits for the answer once, and is remembered.
  Result announce(int way_back, std::uint64_t now_ns, std::uint64_t times_up);

  // Whether lingerd takes records of this kind, after an attempt to reach it if it couldn't be
  // before and the time for another one has come. kOtherVersion: it doesn't.
  Result reach(RecordKind kind, std::uint64_t now_ns, std::uint64_t times_up);

  // Offers the socket with the rest of a response, in `content`. kNone: lingerd delivers it.
  // Anything else: it never will. kRefused with EBADF: it has no use for this content, or for the
  // socket.
  Result deliver(int socket, int content, Handoff handoff, std::uint64_t now_ns,
                 std::uint64_t times_up);

  // Whether the lingerd that we are connected to takes records of this kind.
  [[nodiscard]] bool takes(RecordKind kind) const {
    return state_.load(std::memory_order_acquire) == State::kReady &&
           (kinds_.load(std::memory_order_relaxed) & bit_of(kind)) != 0;
  }
  [[nodiscard]] bool delivers() const { return takes(RecordKind::kDeliver); }

  // Whether a record of this kind would get lost with it: every lingerd takes lingers.
  [[nodiscard]] bool refuses(RecordKind kind) const {
    return kind != RecordKind::kLinger && !takes(kind);
  }

 private:
  static constexpr int kGreetingWaitMs = 250;
  static constexpr int kAnswerWaitMs = 250;
  static constexpr std::uint64_t kAnnounceAgainNs = 10'000'000'000;
  static constexpr std::uint64_t kGreetingPatienceNs = kStaleNs;
  enum class State { kDisconnected, kGreeting, kReady };

  Result send(std::span<const int> descriptors, const Handoff& handoff);
  Result send_or_reconnect(std::span<const int> descriptors, const Handoff& handoff,
                           std::uint64_t now_ns, std::uint64_t times_up);
  Result make_ready(std::uint64_t now_ns, std::uint64_t times_up);
  Result reconnect(std::uint64_t now_ns);
  Result offer(std::span<const int> descriptors, const Handoff& handoff, std::uint64_t now_ns);
  [[nodiscard]] std::optional<Acceptance> wait_for_answer(std::uint64_t ticket);
  Result offer_way(int way_back, std::uint64_t now_ns);
  Result connect(std::uint64_t now_ns);
  Result read_greeting(std::uint64_t now_ns);
  Result disconnect(Result why, std::uint64_t now_ns);

  const char* path_;
  // The number never changes: a connection is replaced under it with dup3(), so that a thread in
  // sendmsg() can't meet a number that has meanwhile become another file's.
  UniqueFd fd_;
  std::atomic<State> state_{State::kDisconnected};
  std::atomic<std::uint64_t> kinds_{0};   // of records, as greeted
  std::atomic<bool> way_is_good_{false};  // announced by this connection, and accepted
  std::mutex mutex_;                      // of all below
  Result last_;  // why there is no connection, or the one before had failed
  Backoff backoff_;
  std::uint64_t connected_ns_ = 0;
  std::uint64_t times_up_ = 0;           // at the last failure
  std::uint64_t ticket_ = 0;             // of the last offer
  std::uint64_t announce_again_ns_ = 0;  // the way back was refused: not before then
  int refused_with_ = 0;
};

}  // namespace lingerd
