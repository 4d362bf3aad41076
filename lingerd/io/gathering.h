// SPDX-License-Identifier: Apache-2.0
// Under load, arrivals are taken in batches: waking for each costs more than the work itself. After
// a batch the loop sleeps for a moment, so that more come, and their clients close, before it
// looks.
//
// When arrivals follow each other within 2 ms the loop sleeps a millisecond after each batch,
// and looks at a batch only in the turn after it came: most quick clients have closed by then
// and cost one recv and one close. No client waits for it: the FIN is out. Parked clients do
// wait, so while lingers gather the loop waits for the parked ones' epoll instead of sleeping.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lingerd/io/parking.h"

namespace lingerd {

class Gathering {
 public:
  // So many sockets have arrived.
  void note(std::size_t arrived) { arrived_ += arrived; }

  // At the end of a turn: whether what arrived in it is to be looked at now.
  [[nodiscard]] bool looks_at_once(std::uint64_t now_ns);

  // Before the next turn: sleeps if this is load. A parked client that sends a request meanwhile
  // goes back at once; `now_ns` is the time of the last look.
  void wait(Parking& parking, std::uint64_t& now_ns);

 private:
  std::size_t arrived_ = 0;  // in this turn
  std::uint64_t last_ns_ = 0;
  bool loaded_ = false;  // arrivals follow each other closely
};

}  // namespace lingerd
