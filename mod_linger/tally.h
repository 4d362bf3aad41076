// SPDX-License-Identifier: Apache-2.0
// What the module has counted, and how it last found lingerd: one piece of anonymous shared memory
// of httpd's parent, inherited by every child, that outlives graceful restarts.
//
// A record has a word for the fallbacks that lingerd hasn't heard of, so that `lingerctl check`
// knows their share from the stats page alone; what httpd can't tell because it reaches no
// lingerd shows as LingerPeers 0.
#pragma once

#include <httpd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "contract/counters.h"
#include "contract/module_ring.h"
#include "mod_linger/link/obstacle.h"
#include "report/report.h"

namespace lingerd {

class Tally {
 public:
  void count(ModuleCounter counter, std::uint64_t by = 1) {
    counts_[static_cast<std::size_t>(counter)].fetch_add(by, std::memory_order_relaxed);
  }
  void count_handoff(std::uint64_t now_ns, std::uint64_t took_ns);
  void count_fallback(Obstacle obstacle, std::uint64_t now_ns);

  // Fallbacks that lingerd doesn't know of yet. A thread that takes them tells it, with the
  // record that it sends, or gives them back.
  [[nodiscard]] std::uint32_t take_unreported() {
    if (unreported_.load(std::memory_order_relaxed) == 0) return 0;
    return unreported_.exchange(0, std::memory_order_relaxed);
  }
  void give_back_unreported(std::uint32_t n) {
    if (n != 0) unreported_.fetch_add(n, std::memory_order_relaxed);
  }

  // Fallbacks is the sum of its reasons; the times are kept in nanoseconds until here.
  [[nodiscard]] ModuleCounters counters() const;
  [[nodiscard]] ModuleRing ring() const { return ring_.snapshot(); }

  // The number of a LingerSocket among those of this httpd's configurations so far, times 256.
  using Place = std::uint32_t;

  // A change of lingerd's state, seen by this child just now; nothing if another child has seen it
  // before, so that each change is logged once.
  struct Change {
    Obstacle before = Obstacle::kNone;
    std::uint64_t fallbacks = 0;  // since lingerd was last up
  };
  [[nodiscard]] std::optional<Change> found_up(Place place) {
    if (found_.load(std::memory_order_relaxed) == (kFoundUp | place)) return std::nullopt;
    return change_to_up(place);
  }
  [[nodiscard]] std::optional<Change> found(Obstacle obstacle, Place place, std::uint64_t now_ns);

  // Where this configuration looks for lingerd. What was found at another LingerSocket is no news
  // of this one; and what children of the configuration before still find there is no news at all.
  [[nodiscard]] Place look_at(std::string_view socket_path);

  // The same for the way back of parked connections: whether this is news.
  [[nodiscard]] bool found_way_back(bool good) {
    return way_back_refused_.load(std::memory_order_relaxed) == good &&
           way_back_refused_.exchange(!good, std::memory_order_relaxed) == good;
  }

  // What the last hand-off, or the last attempt to connect, met with at that place.
  [[nodiscard]] Obstacle last_found(Place place) const {
    const std::uint32_t found = found_.load(std::memory_order_relaxed);
    return (found & ~kFoundMask) == place ? obstacle_in(found) : Obstacle::kNone;
  }

  // Parking has been stopped, because what comes back from this lingerd isn't let in. True: it
  // hadn't been.
  bool stop_parking(std::uint64_t lingerd) { return no_parking_.exchange(lingerd) != lingerd; }
  void resume_parking() { no_parking_.store(0); }
  [[nodiscard]] bool may_park(std::uint64_t lingerd) const {
    return no_parking_.load(std::memory_order_relaxed) != lingerd;
  }

  // Rises each time that lingerd is found up again: a child that waits before its next attempt
  // needn't wait any longer.
  [[nodiscard]] std::uint64_t times_up() const { return times_up_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint32_t kFoundMask = 0xff;  // the rest is the place
  static constexpr std::uint32_t kFoundNothingYet = kFoundMask;
  static constexpr std::uint32_t kFoundUp = static_cast<std::uint32_t>(Obstacle::kNone);
  static constexpr std::uint64_t kBusyLogPeriodNs = 60'000'000'000;
  // None where nothing has been found yet.
  [[nodiscard]] static Obstacle obstacle_in(std::uint32_t found) {
    const std::uint32_t obstacle = found & kFoundMask;
    return obstacle == kFoundNothingYet ? Obstacle::kNone : static_cast<Obstacle>(obstacle);
  }
  [[nodiscard]] std::optional<Change> change_to_up(Place place);
  [[nodiscard]] std::uint64_t fallbacks() const;
  [[nodiscard]] std::uint64_t get(ModuleCounter counter) const {
    return counts_[static_cast<std::size_t>(counter)].load(std::memory_order_relaxed);
  }

  std::array<std::atomic<std::uint64_t>, kModuleCounters> counts_{};
  std::atomic<Place> place_{0};
  char looked_at_[128] = {};  // by the parent, which alone changes it
  std::atomic<std::uint32_t> found_{kFoundNothingYet};
  std::atomic<bool> way_back_refused_{false};
  std::atomic<std::uint32_t> unreported_{0};
  std::atomic<std::uint64_t> fallbacks_before_{0};  // when lingerd was last up
  std::atomic<std::uint64_t> times_up_{0};
  std::atomic<std::uint64_t> busy_logged_ns_{0};
  std::atomic<std::uint64_t> no_parking_{0};
  SharedModuleRing ring_;
};

// Makes the tally, or finds the one that an earlier configuration of this httpd made. Null, after
// logging why, if there is no memory: httpd then starts without hand-offs.
[[nodiscard]] Tally* find_or_make_tally(server_rec* server);

}  // namespace lingerd
