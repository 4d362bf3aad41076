// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/closer.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <utility>

#include "base/log.h"
#include "base/shared_table.h"
#include "lingerd/io/closer_process.h"

namespace lingerd {
namespace {

constexpr std::uint64_t kMilli = 1'000'000;
constexpr std::uint64_t kStuckNs = 250 * kMilli;   // in one close(2): others don't wait for it
constexpr std::uint64_t kKillNs = 2'000 * kMilli;  // SO_LINGER waits for a client, or for a signal
constexpr std::uint64_t kLookNs = 50 * kMilli;
constexpr std::uint64_t kHireAgainNs = 1'000 * kMilli;
constexpr std::size_t kMostGiven = 4'096;  // a pipe has room for four times as many

bool has_ended(pid_t pid) {
  return waitpid(pid, nullptr, WNOHANG) != 0;
}

// Only at the end of this process's life, or of its program's: within a moment it is gone, or
// stuck.
void wait_a_moment_for(pid_t pid) {
  for (int i = 0; i < 200 && !has_ended(pid); ++i) {
    const timespec pause{0, static_cast<long>(kMilli)};
    nanosleep(&pause, nullptr);
  }
}

}  // namespace

struct Closer::Shared {
  std::array<CloserSlot, kMost> slots;
};

Closer& closer() {
  static Closer the_one;
  return the_one;
}

void Closer::start(std::uint32_t room, std::uint64_t now_ns) {
  room_ = room;
  now_ns_ = now_ns;
  if (mode_ == Mode::kChild) return;
  if (shared_ == nullptr) {
    void* page =
        mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    std::array<int, 2> ends{};
    if (page != MAP_FAILED && pipe2(ends.data(), O_CLOEXEC) == 0) {
      shared_ = new (page) Shared;
      from_.reset(ends[0]);
      to_.reset(ends[1]);
      fcntl(to_.get(), F_SETFL, O_NONBLOCK);
    }
  }
  if (shared_ != nullptr && hire(now_ns)) {
    mode_ = Mode::kChild;
  } else {
    mode_ = Mode::kItself;
    log::write(log::Level::kWarning,
               "can't start a process that closes what peers send (%s): lingerd closes it itself, "
               "and a hostile peer can make it wait; allow it a few processes (TasksMax=)",
               std::strerror(errno));
  }
  look_after(now_ns);
}

std::optional<std::size_t> Closer::free_slot() const {
  for (std::size_t i = 0; i < kMost; ++i) {
    const bool used = (active_ && active_->slot == i) ||
                      std::ranges::any_of(stuck_, [i](const Process& p) { return p.slot == i; });
    if (!used) return i;
  }
  return std::nullopt;
}

bool Closer::hire(std::uint64_t now_ns) {
  if (now_ns < hire_again_ns_) return false;
  const std::optional<std::size_t> slot = free_slot();
  if (!slot) return false;
  CloserSlot& its = shared_->slots[*slot];
  its.card = CloserCard{};
  const pid_t parent = getpid();
  // A process, not a thread: in D state a thread would hold up this process's own end. Not fork(2)
  // either, which has no way to share the table.
  const pid_t pid = fork_with_our_descriptors();
  if (pid == 0) run_closer(its, from_.get(), parent);
  if (pid < 0) {
    hire_again_ns_ = now_ns + kHireAgainNs;
    return false;
  }
  active_ = Process{.slot = *slot, .pid = pid};
  seen_closed_ = 0;
  return true;
}

void Closer::take(UniqueFd fd, uid_t owner) {
  if (!fd) return;
  if (mode_ == Mode::kItself) {
    close_without_linger(fd.release());
    return;
  }
  ++open_;
  ++users_[owner].open;
  queue({fd.release(), owner});
}

void Closer::queue(const Junk& junk) {
  User& user = users_[junk.owner];
  if (user.stuck >= kMostStuck && junk.owner != kOwn) {
    user.held.push_back(junk.fd);
  } else {
    waiting_.push_back(junk);
  }
}

void Closer::forget(const Junk& junk) {
  --open_;
  const auto user = users_.find(junk.owner);
  if (--user->second.open == 0 && user->second.stuck == 0) users_.erase(user);
}

void Closer::give() {
  std::array<int, 512> numbers{};
  while (!waiting_.empty() && given_.size() < kMostGiven) {
    const std::size_t count = std::min(numbers.size(), waiting_.size());
    if (given_.empty()) moved_ns_ = now_ns_;
    for (std::size_t i = 0; i < count; ++i) numbers[i] = waiting_[i].fd;
    // Below PIPE_BUF: all of them or none.
    if (write(to_.get(), numbers.data(), count * sizeof(int)) < 0) return;
    const auto end = waiting_.begin() + static_cast<std::ptrdiff_t>(count);
    given_.insert(given_.end(), waiting_.begin(), end);
    waiting_.erase(waiting_.begin(), end);
  }
}

void Closer::count_closed() {
  const std::uint32_t closed = shared_->slots[active_->slot].card.load().closed;
  if (seen_closed_ != closed) moved_ns_ = now_ns_;
  for (; seen_closed_ != closed; ++seen_closed_) {
    forget(given_.front());
    given_.pop_front();
  }
}

// What nobody has read from the pipe yet.
void Closer::take_back() {
  int unread = 0;
  ioctl(from_.get(), FIONREAD, &unread);
  std::vector<int> numbers(static_cast<std::size_t>(unread) / sizeof(int));
  if (!numbers.empty()) {
    [[maybe_unused]] const auto got =
        read(from_.get(), numbers.data(), numbers.size() * sizeof(int));
  }
  std::deque<Junk> later = std::exchange(waiting_, {});
  for (const Junk& junk : std::exchange(given_, {})) queue(junk);
  for (const Junk& junk : later) queue(junk);
}

// The descriptor has left the table when its close began, so it is no longer in the way.
void Closer::leave_behind(std::uint64_t now_ns) {
  const Junk junk = given_.front();
  given_.pop_front();
  ++users_[junk.owner].stuck;
  forget(junk);
  Process process = *std::exchange(active_, std::nullopt);
  process.owner = junk.owner;
  process.since_ns = now_ns;
  stuck_.push_back(process);
  take_back();
}

void Closer::look_after_active(std::uint64_t now_ns) {
  if (!active_ && !hire(now_ns)) return;
  CloserSlot& its = shared_->slots[active_->slot];
  count_closed();
  if (given_.empty()) return;
  CloserCard card{CloserState::kClosing, seen_closed_};
  const bool long_ago = now_ns > its.since_ns + kStuckNs;
  if (long_ago &&
      its.card.compare_exchange_strong(card, {CloserState::kLeftBehind, seen_closed_})) {
    leave_behind(now_ns);
    if (!hire(now_ns)) return;
  } else if (long_ago && has_ended(active_->pid)) {
    // Somebody has killed it. What it had in hand is closed, or stays open: nobody can tell, and
    // the number may be another's by now.
    count_closed();
    if (its.card.load().state == CloserState::kClosing) {
      forget(given_.front());
      given_.pop_front();
    }
    active_.reset();
    take_back();
    if (!hire(now_ns)) return;
  } else if (its.card.load().state == CloserState::kIdle && now_ns > moved_ns_ + kKillNs) {
    // Somebody has stopped it (SIGSTOP, a debugger). The next look finds it gone.
    kill(active_->pid, SIGKILL);
    moved_ns_ = now_ns;
  }
}

void Closer::look_after_stuck(std::uint64_t now_ns) {
  for (auto process = stuck_.begin(); process != stuck_.end();) {
    if (!has_ended(process->pid)) {
      if (!process->killed && now_ns > process->since_ns + kKillNs) {
        kill(process->pid, SIGKILL);
        process->killed = true;
      }
      ++process;
      continue;
    }
    User& user = users_[process->owner];
    --user.stuck;
    for (const int fd : std::exchange(user.held, {})) queue({fd, process->owner});
    if (user.open == 0 && user.stuck == 0) users_.erase(process->owner);
    process = stuck_.erase(process);
  }
}

void Closer::look_after(std::uint64_t now_ns) {
  now_ns_ = now_ns;
  if (mode_ == Mode::kItself) {
    for (const Junk& junk : std::exchange(waiting_, {})) {
      close_without_linger(junk.fd);
      forget(junk);
    }
  }
  if (mode_ != Mode::kChild || (open_ == 0 && stuck_.empty())) return;
  look_after_stuck(now_ns);
  look_after_active(now_ns);
  if (active_) give();
}

std::optional<std::uint64_t> Closer::next_look_ns() const {
  if (mode_ != Mode::kChild || (open_ == 0 && stuck_.empty())) return std::nullopt;
  return now_ns_ + kLookNs;
}

bool Closer::has_room_for(uid_t owner) const {
  const auto user = users_.find(owner);
  return user == users_.end() || user->second.open <= room_ / 4;
}

void Closer::dismiss(int signal) {
  mode_ = Mode::kNotYet;
  if (!active_) return;
  kill(active_->pid, signal);
  wait_a_moment_for(active_->pid);
  count_closed();
  active_.reset();
  take_back();
}

// What has come in the last turn takes a moment, unless it takes for ever.
void Closer::finish() {
  for (int i = 0; i < 200 && open_ > 0 && stuck_.empty(); ++i) {
    look_after(now_ns_ + kMilli);
    const timespec pause{0, static_cast<long>(kMilli)};
    nanosleep(&pause, nullptr);
  }
}

// With others stuck it stays: they keep the table, and so that nobody waits for the sockets in it,
// it closes them when this process has died. Until then this one's end would close all that waits
// here, and be stuck itself.
void Closer::end() {
  if (mode_ != Mode::kChild) return;
  finish();
  if (stuck_.empty() && open_ == 0) dismiss(SIGKILL);
  mode_ = Mode::kNotYet;
}

bool Closer::end_for_exec() {
  if (mode_ != Mode::kChild) return true;
  finish();
  if (open_ > 0) return false;
  // The table of the stuck ones stays as it is now: a copy for us, and its sockets are closed.
  const bool alone = stuck_.empty() || unshare(CLONE_FILES) != 0;
  dismiss(alone ? SIGKILL : kCloserEnds);
  return true;
}

}  // namespace lingerd
