// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/acceptor.h"

#include <sys/epoll.h>

#include <utility>

#include "base/log.h"
#include "lingerd/io/epoll_tag.h"

namespace lingerd {
namespace {

constexpr std::uint64_t kPauseNs = 100'000'000;

}  // namespace

Acceptor::Acceptor(int epoll_fd, UniqueFd listener)
    : epoll_fd_(epoll_fd), listener_(std::move(listener)) {
  watch(epoll_fd_, listener_.get(), OwnTag::kListener);
}

void Acceptor::accept(Intake& intake, std::uint64_t now_ns) {
  if (!listener_) return;
  const bool paused = again_ns_ != 0;
  const bool fine = intake.accept_peers(listener_.get(), now_ns);
  again_ns_ = fine ? 0 : now_ns + kPauseNs;
  if (fine == !paused) return;
  epoll_event event{};
  event.events = fine ? std::uint32_t{EPOLLIN} : 0;
  event.data.u64 = static_cast<std::uint64_t>(OwnTag::kListener);
  epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, listener_.get(), &event);
  if (fine) return;
  if (const auto held_back = limiter_.allow(now_ns / 1'000'000)) {
    log::write(log::Level::kWarning,
               "can't accept a connection: out of descriptors or memory; trying again (%llu more "
               "times since)",
               static_cast<unsigned long long>(*held_back));
  }
}

void Acceptor::try_again(Intake& intake, std::uint64_t now_ns) {
  if (again_ns_ != 0 && now_ns >= again_ns_) accept(intake, now_ns);
}

std::optional<std::uint64_t> Acceptor::wake_ns() const {
  if (again_ns_ == 0) return std::nullopt;
  return again_ns_;
}

void Acceptor::close() {
  listener_.reset();
  again_ns_ = 0;
}

}  // namespace lingerd
