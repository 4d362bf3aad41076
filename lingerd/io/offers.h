// SPDX-License-Identifier: Apache-2.0
// What a peer has offered and not begun yet: deliveries whose descriptors have arrived and were
// found fit, with room for them set aside. Until its begin comes, an offer is the peer's: it may
// think better of it, and where its connection ends its offers end too. A handover parts with peers
// whose offers are open: they find out when they begin.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/unique_fd.h"
#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/deliveries.h"
#include "lingerd/core/delivery.h"
#include "lingerd/core/lingerer.h"

namespace lingerd {

class Offers {
 public:
  // A child makes one at a time; more are a hostile peer's.
  static constexpr std::size_t kMost = 16;
  // A child waits for the answer for 250 ms, and begins at once or not at all.
  static constexpr std::uint64_t kPatienceNs = 2'000'000'000;

  Offers(Lingerer& lingerer, Deliveries& deliveries, DaemonCounters& counters, uid_t owner)
      : lingerer_(&lingerer), deliveries_(&deliveries), counters_(&counters), owner_(owner) {}
  Offers(Offers&&) noexcept = default;
  Offers& operator=(Offers&&) = delete;
  ~Offers() { drop_all(); }

  // Takes both descriptors on kAccepted; else they are still the caller's. `socket` is one that
  // KernelSockets would adopt.
  [[nodiscard]] Acceptance take(UniqueFd& socket, UniqueFd& content, const Handoff& handoff,
                                std::uint64_t now_ns);

  // The offer of that ticket becomes a delivery. False: there is none.
  [[nodiscard]] bool begin(std::uint64_t ticket, std::uint64_t now_ns);

  // Lets go of those that nobody has begun in time, and counts them.
  void expire(std::uint64_t now_ns);

  [[nodiscard]] bool empty() const { return waiting_.empty(); }

 private:
  struct Offer {
    UniqueFd socket;
    UniqueFd content;
    Content what;
    Handoff handoff;
    std::uint64_t since_ns = 0;
  };
  void drop(Offer& offer);
  void drop_all();

  Lingerer* lingerer_;
  Deliveries* deliveries_;
  DaemonCounters* counters_;
  uid_t owner_;
  std::vector<Offer> waiting_;
};

}  // namespace lingerd
