// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/orders.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "lingerd/io/epoll_tag.h"

namespace lingerd {
namespace {

UniqueFd signal_fd() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : kLoopSignals) sigaddset(&signals, signal);
  UniqueFd fd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) throw std::system_error(errno, std::system_category(), "signalfd");
  return fd;
}

}  // namespace

Orders::Orders(int epoll_fd, pid_t manager)
    : epoll_fd_(epoll_fd), manager_(manager), signals_(signal_fd()) {
  watch(epoll_fd_, signals_.get(), OwnTag::kSignals);
}

void Orders::read_signals(std::uint64_t now_ns) {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) take(info, now_ns);
}

void Orders::take(const signalfd_siginfo& info, std::uint64_t now_ns) {
  switch (static_cast<int>(info.ssi_signo)) {
    case SIGHUP: reload_ = true; break;
    case SIGUSR1:
      // Other daemons' "open the log again", and httpd's graceful restart.
      if (usr1_limiter_.allow(now_ns / 1'000'000)) {
        log::write(log::Level::kNotice,
                   "SIGUSR1 ignored: lingerd has no log file of its own to open again");
      }
      break;
    case SIGUSR2:
      (manager_ != 0 && info.ssi_pid == static_cast<std::uint32_t>(manager_) ? replace_and_stop_
                                                                             : replace_) = true;
      break;
    default: stop_ = true;
  }
}

void Orders::send(const std::function<Errand()>& errand) {
  try {
    errand_.emplace(errand());
    watch(epoll_fd_, errand_->fd(), OwnTag::kErrand);
  } catch (const std::exception& problem) {
    errand_.reset();
    unread_ = {Errand::kKilled, problem.what()};
  }
}

void Orders::forget_errand() {
  errand_.reset();
  unread_.reset();
}

std::optional<Order> Orders::next(std::uint64_t now_ns) {
  if (std::exchange(stop_, false)) return Order::kStop;
  if (std::exchange(replace_and_stop_, false)) return Order::kReplaceAndStop;
  if (errand_) unread_ = errand_->collect(now_ns);
  if (unread_) {
    errand_.reset();
    answer_ = *std::exchange(unread_, std::nullopt);
    return Order::kAnswer;
  }
  if (errand_) return std::nullopt;
  if (std::exchange(reload_, false)) return Order::kReload;
  if (std::exchange(replace_, false)) return Order::kReplace;
  return std::nullopt;
}

std::optional<std::uint64_t> Orders::wake_ns(std::uint64_t now_ns) const {
  if (unread_) return now_ns;
  if (!errand_) return std::nullopt;
  return errand_->wake_ns(now_ns);
}

}  // namespace lingerd
