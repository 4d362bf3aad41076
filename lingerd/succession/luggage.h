// SPDX-License-Identifier: Apache-2.0
// All that a loop holds, packed for a successor's, and unpacked there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/unique_fd.h"
#include "lingerd/core/carry.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/io/loop.h"
#include "lingerd/succession/parcel.h"

namespace lingerd {

// Everything that another lingerd needs to go on, in one parcel. The loop's own copies stay until
// this process ends: if no successor can be had, nothing has happened, but that offers have been
// settled. Throws std::system_error.
[[nodiscard]] Parcel pack_up(Loop& loop);

// What an earlier lingerd left. Without a state that can be read (another version's) the sockets
// still linger, as if they had just come. What has got lost on its way ends, and nothing else.
class Luggage {
 public:
  explicit Luggage(std::optional<Unpacked> unpacked);

  // When its counters began; 0: nothing came.
  [[nodiscard]] std::uint64_t started_ns() const { return state_.started_ns; }

  // Into a new loop. No socket is touched: until settle() all could be given to another lingerd.
  void move_into(Loop& loop);

  // Sockets of which nothing is known. They may have been parked, or have had something to deliver:
  // their clients must not wait.
  void settle(Loop& loop);

 private:
  struct Sorted;
  void sort_into(Sorted& sorted);
  std::size_t examine(std::vector<UniqueFd> strays, Loop& loop);

  bool came_ = false;
  CarryResult result_ = CarryResult::kOk;
  CarriedState state_;
  std::vector<Unpacked::Item> items_;
  std::vector<SocketId> unknown_;
};

}  // namespace lingerd
