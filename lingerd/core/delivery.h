// SPDX-License-Identifier: Apache-2.0
// Delivery: the rest of a response, sent to a client before its linger begins. How far each one is,
// and what is counted of it. Pure; deliveries.h drives it.
//
// Deliveries have no cap, only a clock that any progress resets, and with --min-rate a floor.
// They have deadline lists of their own, so that making room ends lingers first: those have had
// their response.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/drain.h"

namespace lingerd {

// The rest of a response, in a descriptor of its own.
struct Content {
  SocketId id = 0;           // the descriptor's number
  std::uint64_t offset = 0;  // of the next byte to send
  std::uint64_t left = 0;
  std::uint64_t memory = 0;  // bytes of memory that it takes; a file takes none
};

// What became of an attempt to send some of it.
struct PushResult {
  enum class State {
    kMoved,     // some went
    kFull,      // the socket takes no more for now
    kReset,     // the connection is over
    kCutShort,  // the content has fewer bytes than it should
  };
  State state = State::kFull;
  std::uint64_t bytes = 0;
};

struct Delivery {
  Content content;
  std::uint32_t idle_ms = 0;  // of the linger behind it
  std::uint32_t cap_ms = 0;
  std::uint64_t window_left = 0;  // of the content, when the current rate window began
  std::uint32_t generation = 0;   // of its socket
  Patience patience{};            // of LingerOffloadTimeout
};

// A floor under a delivery's rate is judged over windows of this length.
inline constexpr std::uint32_t kRateWindowMs = 10'000;

// The deliveries under way, and their counters.
class DeliveryBooks {
 public:
  explicit DeliveryBooks(DaemonCounters& counters) : counters_(counters) {}

  // Bytes a second that a delivery must move, on average over each window; 0: none.
  void set_min_rate(std::uint64_t rate) { min_rate_ = rate; }

  Delivery& begin(SocketId id, const Content& content, const Handoff& handoff);
  // The same for one that an earlier lingerd had begun: it is in the counters already.
  Delivery& resume(SocketId id, const Delivery& delivery);
  [[nodiscard]] Delivery* find(SocketId id);
  [[nodiscard]] const Delivery* find(SocketId id) const;

  [[nodiscard]] std::size_t size() const { return under_way_.size(); }

  void moved(Delivery& delivery, std::uint64_t bytes);
  // Over, one way or the other. The caller closes the content.
  void end(SocketId id, DaemonCounter how);

  // Whether it has moved fast enough since the last time this was asked.
  [[nodiscard]] bool fast_enough(Delivery& delivery) const;

 private:
  DaemonCounters& counters_;
  std::uint64_t min_rate_ = 0;
  std::unordered_map<SocketId, Delivery> under_way_;
};

}  // namespace lingerd
