// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/offers.h"

#include <algorithm>
#include <utility>

#include "lingerd/core/deadlines.h"
#include "lingerd/io/closer.h"
#include "lingerd/io/sockets.h"

namespace lingerd {

Acceptance Offers::take(UniqueFd& socket, UniqueFd& content, const Handoff& handoff,
                        std::uint64_t now_ns) {
  Content what;
  if (!KernelSockets::examine_content(content.get(), handoff, what)) return Acceptance::kUnfit;
  if (waiting_.size() >= kMost || !deliveries_->set_aside(what.memory, owner_, now_ns)) {
    return Acceptance::kNoRoom;
  }
  waiting_.push_back({std::move(socket), std::move(content), what, handoff, now_ns});
  return Acceptance::kAccepted;
}

bool Offers::begin(std::uint64_t ticket, std::uint64_t now_ns) {
  const auto found =
      std::ranges::find(waiting_, ticket, [](const Offer& offer) { return offer.handoff.ticket; });
  if (found == waiting_.end()) return false;
  deliveries_->give_back(found->what.memory, owner_);
  const Handoff handoff = found->handoff;
  Content content = found->what;
  content.id = static_cast<SocketId>(found->content.release());
  const auto socket = static_cast<SocketId>(found->socket.release());
  waiting_.erase(found);
  lingerer_->arrive_with(socket, content, handoff, now_ns);
  return true;
}

void Offers::drop(Offer& offer) {
  deliveries_->give_back(offer.what.memory, owner_);
  closer().take(std::move(offer.socket), owner_);
  closer().take(std::move(offer.content), owner_);
}

void Offers::drop_all() {
  for (Offer& offer : waiting_) drop(offer);
  waiting_.clear();
}

void Offers::expire(std::uint64_t now_ns) {
  // In the order in which they came.
  const auto alive = std::ranges::find_if(
      waiting_, [&](const Offer& offer) { return now_ns < offer.since_ns + kPatienceNs; });
  for (auto offer = waiting_.begin(); offer != alive; ++offer) {
    drop(*offer);
    ++(*counters_)[DaemonCounter::kOffersExpired];
  }
  waiting_.erase(waiting_.begin(), alive);
}

}  // namespace lingerd
