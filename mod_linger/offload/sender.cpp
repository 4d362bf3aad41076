// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/offload/sender.h"

#include <dlfcn.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <limits>
#include <mutex>
#include <new>
#include <vector>

#include "base/clock.h"
#include "base/unique_fd.h"

namespace lingerd {
namespace {

constexpr std::uint64_t kNever = Rest::kNever;
constexpr std::uint64_t kAtOnce = 1;

// A process that may change its user (mod_ruid2, the one of mpm_itk that forks) gets no thread:
// capabilities are each thread's own, and where setuid(2) works in one thread and not in another
// the C library ends the process.
bool may_change_user() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
  if (syscall(SYS_capget, &header, data) != 0) return true;
  constexpr std::uint32_t kUsers = (1U << CAP_SETUID) | (1U << CAP_SETGID);
  return (data[0].permitted & kUsers) != 0;
}

// A child ends without waiting for the thread, and unloads modules on its way.
bool stay_loaded() {
  Dl_info self{};
  return dladdr(reinterpret_cast<void*>(&may_change_user), &self) != 0 &&
         (dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE) != nullptr ||
          dlopen(nullptr, RTLD_NOW) != nullptr);  // a program of its own (unit tests)
}

class Sender {
 public:
  Sender() : process_(getpid()) {}

  [[nodiscard]] bool start();
  [[nodiscard]] bool works() const { return works_; }
  [[nodiscard]] pid_t process() const { return process_; }

  [[nodiscard]] bool add(const std::shared_ptr<Rest>& rest, std::uint64_t due_ns);
  void remove(const std::shared_ptr<Rest>& rest);

 private:
  using Rests = std::vector<std::shared_ptr<Rest>>;

  static void* run(void* sender);
  void turn();
  std::uint64_t gather(std::uint64_t now_ns);
  void attempt(Rest& rest, std::uint64_t now_ns);
  void set_timer(std::uint64_t at_ns);

  const pid_t process_;
  bool works_ = false;
  UniqueFd timer_;
  std::mutex mutex_;                 // of the three below
  Rests rests_;                      // all that may have to be sent
  std::uint64_t timer_ns_ = kNever;  // never later than any of theirs that isn't watched
  Rests watched_;                    // those whose time has come: only the thread changes it
  std::vector<pollfd> polled_;       // the timer, and their sockets
};

bool Sender::start() {
  if (may_change_user() || !stay_loaded()) return false;
  timer_.reset(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer_) return false;
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  constexpr std::size_t kStack = std::size_t{256} << 10;
  pthread_attr_setstacksize(&attributes, kStack);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  // httpd's, PHP's and everybody's signals are for the others.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread{};
  works_ = pthread_create(&thread, &attributes, run, this) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  return works_;
}

bool Sender::add(const std::shared_ptr<Rest>& rest, std::uint64_t due_ns) {
  const std::scoped_lock lock(mutex_);
  if (std::ranges::find(rests_, rest) == rests_.end()) {
    try {
      rests_.push_back(rest);
    } catch (const std::bad_alloc&) {
      return false;
    }
  }
  rest->due_ns.store(due_ns, std::memory_order_relaxed);
  if (due_ns < timer_ns_) set_timer(due_ns);
  return true;
}

void Sender::remove(const std::shared_ptr<Rest>& rest) {
  const std::scoped_lock lock(mutex_);
  std::erase(rests_, rest);
  if (std::ranges::find(watched_, rest) != watched_.end()) {
    // The thread holds a copy of the client's socket while it waits for it: until then nobody else
    // can end the connection.
    set_timer(kAtOnce);
  } else if (rests_.empty() && timer_ns_ != kNever && timer_ns_ != kAtOnce) {
    set_timer(kNever);  // scripts that are quick never wake the thread
  }
}

void Sender::set_timer(std::uint64_t at_ns) {
  timer_ns_ = at_ns;
  itimerspec when{};
  if (at_ns != kNever) {
    const std::uint64_t at = std::max<std::uint64_t>(at_ns, 1);  // 0 would switch it off
    when.it_value.tv_sec = static_cast<time_t>(at / 1'000'000'000);
    when.it_value.tv_nsec = static_cast<long>(at % 1'000'000'000);
  }
  timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

void* Sender::run(void* sender) {
  pthread_setname_np(pthread_self(), "linger_sender");
  for (;;) {
    try {
      static_cast<Sender*>(sender)->turn();
    } catch (const std::bad_alloc&) {
      constexpr timespec kMoment{0, 10'000'000};
      nanosleep(&kMoment, nullptr);
    }
  }
  return nullptr;
}

void Sender::turn() {
  const std::uint64_t patience_ns = gather(monotonic_ns());
  constexpr std::uint64_t kLongest = std::numeric_limits<int>::max();
  const int wait_ms = patience_ns == kNever
                          ? -1
                          : static_cast<int>(std::min(patience_ns / 1'000'000 + 1, kLongest));
  poll(polled_.data(), polled_.size(), wait_ms);
  std::uint64_t expirations = 0;
  if (polled_[0].revents != 0 && read(timer_.get(), &expirations, sizeof expirations) < 0) {
    // It was set again meanwhile: gather() looks at the times themselves.
  }
  const std::uint64_t now_ns = monotonic_ns();
  for (std::size_t i = 0; i < watched_.size(); ++i) {
    Rest& rest = *watched_[i];
    const bool overdue = now_ns >= rest.moved_ns.load(std::memory_order_relaxed) + rest.timeout_ns;
    if (polled_[i + 1].revents != 0 || overdue) attempt(rest, now_ns);
  }
  Rests looked_at;  // the last reference to one may be here: closed without the lock
  const std::scoped_lock lock(mutex_);
  looked_at.swap(watched_);
}

// What to poll. How long until the first of them has to be given up; kNever: there is none.
std::uint64_t Sender::gather(std::uint64_t now_ns) {
  const std::scoped_lock lock(mutex_);
  std::uint64_t next = kNever;
  std::uint64_t patience_ns = kNever;
  watched_.clear();  // what a turn without memory has left
  watched_.reserve(rests_.size());
  polled_.assign(1, {timer_.get(), POLLIN, 0});
  polled_.reserve(rests_.size() + 1);
  for (const std::shared_ptr<Rest>& rest : rests_) {
    const std::uint64_t due_ns = rest->due_ns.load(std::memory_order_relaxed);
    if (due_ns > now_ns) {
      next = std::min(next, due_ns);
      continue;
    }
    watched_.push_back(rest);
    polled_.push_back({rest->socket.get(), POLLOUT, 0});
    const std::uint64_t until = rest->moved_ns.load(std::memory_order_relaxed) + rest->timeout_ns;
    patience_ns = std::min(patience_ns, until > now_ns ? until - now_ns : 0);
  }
  if (next != timer_ns_) set_timer(next);
  return patience_ns;
}

void Sender::attempt(Rest& rest, std::uint64_t now_ns) {
  const std::unique_lock lock(rest.mutex, std::try_to_lock);
  if (!lock.owns_lock()) {  // its worker writes, or waits for the client itself
    rest.due_ns.store(now_ns + kSenderPauseNs, std::memory_order_relaxed);
    return;
  }
  if (rest.withdrawn) return;
  if (rest.bytes.empty()) {
    rest.due_ns.store(kNever, std::memory_order_relaxed);
    return;
  }
  if (rest.send(now_ns) == RestBytes::Result::kWouldBlock &&
      now_ns >= rest.moved_ns.load(std::memory_order_relaxed) + rest.timeout_ns) {
    rest.fail(ETIMEDOUT);
  }
}

std::atomic<Sender*> of_process{nullptr};  // never deleted: its thread doesn't end

Sender* sender() {
  Sender* found = of_process.load(std::memory_order_acquire);
  if (found == nullptr || found->process() != getpid()) {
    static std::mutex one_at_a_time;
    const std::scoped_lock lock(one_at_a_time);
    found = of_process.load(std::memory_order_acquire);
    if (found == nullptr || found->process() != getpid()) {
      found = new (std::nothrow) Sender;
      if (found == nullptr) return nullptr;
      static_cast<void>(found->start());
      of_process.store(found, std::memory_order_release);
    }
  }
  return found->works() ? found : nullptr;
}

}  // namespace

bool let_sender_begin(const std::shared_ptr<Rest>& rest, std::uint64_t due_ns) {
  const std::uint64_t before = rest->due_ns.load(std::memory_order_relaxed);
  if (before <= due_ns && before != kNever) {
    // It is known to the sender. If it hasn't begun yet, the handler has just given it more time.
    if (before > monotonic_ns()) rest->due_ns.store(due_ns, std::memory_order_relaxed);
    return true;
  }
  if (!rest->socket) return false;
  if (before == kNever) rest->moved_ns.store(monotonic_ns(), std::memory_order_relaxed);
  Sender* found = sender();
  return found != nullptr && found->add(rest, due_ns);
}

void take_from_sender(const std::shared_ptr<Rest>& rest) {
  Sender* found = of_process.load(std::memory_order_acquire);
  if (found == nullptr || found->process() != getpid()) return;
  found->remove(rest);
  // It may be about to send.
  const std::scoped_lock lock(rest->mutex);
  rest->withdrawn = true;
  rest->due_ns.store(kNever, std::memory_order_relaxed);
}

}  // namespace lingerd
