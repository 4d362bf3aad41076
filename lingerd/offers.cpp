// SPDX-License-Identifier: Apache-2.0
#include "lingerd/offers.h"

#include <algorithm>
#include <utility>

#include "lingerd/sockets.h"

namespace lingerd {

Acceptance Offers::take(UniqueFd& socket, UniqueFd& content, const Handoff& handoff,
                        std::uint64_t now_ns) {
  Content what;
  if (!KernelSockets::examine_content(content.get(), handoff, what)) return Acceptance::kUnfit;
  if (waiting_.size() >= kMost || !lingerer_->set_aside(what.memory, now_ns)) {
    return Acceptance::kNoRoom;
  }
  waiting_.push_back({std::move(socket), std::move(content), what, handoff});
  return Acceptance::kAccepted;
}

bool Offers::begin(std::uint64_t ticket, std::uint64_t now_ns) {
  const auto found =
      std::ranges::find(waiting_, ticket, [](const Offer& offer) { return offer.handoff.ticket; });
  if (found == waiting_.end()) return false;
  lingerer_->give_back(found->what.memory);
  const Handoff handoff = found->handoff;
  Content content = found->what;
  content.id = static_cast<SocketId>(found->content.release());
  const auto socket = static_cast<SocketId>(found->socket.release());
  waiting_.erase(found);
  lingerer_->arrive_with(socket, content, handoff, now_ns);
  return true;
}

void Offers::drop() {
  for (Offer& offer : waiting_) {
    lingerer_->give_back(offer.what.memory);
    KernelSockets::discard(std::move(offer.socket));
  }
  waiting_.clear();
}

}  // namespace lingerd
