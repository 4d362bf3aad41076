// SPDX-License-Identifier: Apache-2.0
// What a peer has offered and not begun yet: deliveries whose descriptors have arrived and were
// found fit, with room for them set aside. Until its begin comes, an offer is the peer's: it may
// think better of it, and whoever lets go of the connection lets go of its offers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "lingerd/lingerer.h"
#include "lingerd/record.h"
#include "lingerd/unique_fd.h"

namespace lingerd {

class Offers {
 public:
  // A child makes one at a time; more are a hostile peer's.
  static constexpr std::size_t kMost = 16;

  explicit Offers(Lingerer& lingerer) : lingerer_(&lingerer) {}
  Offers(Offers&&) noexcept = default;
  Offers& operator=(Offers&&) = delete;
  ~Offers() { drop(); }

  // Takes both descriptors on kAccepted; else they are still the caller's. `socket` is one that
  // KernelSockets would adopt.
  [[nodiscard]] Acceptance take(UniqueFd& socket, UniqueFd& content, const Handoff& handoff,
                                std::uint64_t now_ns);

  // The offer of that ticket becomes a delivery. False: there is none.
  [[nodiscard]] bool begin(std::uint64_t ticket, std::uint64_t now_ns);

  [[nodiscard]] bool empty() const { return waiting_.empty(); }

 private:
  struct Offer {
    UniqueFd socket;
    UniqueFd content;
    Content what;
    Handoff handoff;
  };
  void drop();

  Lingerer* lingerer_;
  std::vector<Offer> waiting_;
};

}  // namespace lingerd
