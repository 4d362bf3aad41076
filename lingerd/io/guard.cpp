// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/guard.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <new>
#include <system_error>

#include "base/log.h"
#include "base/shared_table.h"
#include "lingerd/io/guard_duty.h"

namespace lingerd {
namespace {

// Descriptors beyond are not guarded.
constexpr std::size_t kMostSlots = std::size_t{1} << 20;
// How long a claim of the guard's may last: some system calls. One that lasts longer is stuck
// itself.
constexpr int kClaimTries = 500;
constexpr int kEndTries = 10'000;

std::size_t descriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return kMostSlots;
  return std::min<std::size_t>(limit.rlim_max, kMostSlots);
}

void pause_briefly() {
  const timespec pause{0, 100'000};
  nanosleep(&pause, nullptr);
}

[[noreturn]] void be_the_guard(const GuardDuty& duty, pid_t parent) {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, nullptr);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NAME, "lingerd-guard");
  if (getppid() != parent) _exit(0);
  duty.run();
}

}  // namespace

Guard::Guard() : size_(descriptors()), bytes_(sizeof(GuardTable) + size_ * sizeof(GuardedSlot)) {
  void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::system_category(), "mmap");
  // Zeros are what an empty table is made of, and writing them would cost memory.
  table_ = static_cast<GuardTable*>(memory);
  slots_ = reinterpret_cast<GuardedSlot*>(table_ + 1);
}

Guard::~Guard() {
  stop();
  munmap(table_, bytes_);
}

void Guard::start() {
  if (pid_ > 0 && waitpid(pid_, nullptr, WNOHANG) == 0) return;
  stop();
  const pid_t us = getpid();
  const GuardDuty duty(*table_, slots_, size_);
  pid_ = fork_with_our_descriptors();
  if (pid_ == 0) be_the_guard(duty, us);
  if (pid_ > 0) return;
  log::write(
      log::Level::kWarning,
      "no guard for parked connections (%s): if this process gets stuck, their requests wait "
      "for it",
      std::strerror(errno));
}

void Guard::stop() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    // At once, unless it hangs in a system call, for which nobody should wait.
    for (int i = 0; waitpid(pid_, nullptr, WNOHANG) == 0 && i < kEndTries; ++i) pause_briefly();
  }
  pid_ = 0;
  std::uint32_t acts = GuardTable::kActs;
  (void)table_->phase.compare_exchange_strong(acts, GuardTable::kHasActed);
  // What it was at: it may have been sent, and then nobody may send it again.
  for (SocketId id = 0; id < table_->end.load(); ++id) {
    (void)slots_[id].move(GuardedSlot::kGuards, GuardedSlot::kHome);
  }
}

GuardedSlot* Guard::slot(SocketId id) const {
  return id < size_ ? &slots_[id] : nullptr;
}

void Guard::watch(SocketId id, int way, const Stay& stay) {
  GuardedSlot* where = slot(id);
  if (where == nullptr) return;
  where->way = way;
  where->stay = stay;
  if (id >= table_->end.load()) table_->end.store(id + 1);
  where->state.store(GuardedSlot::kWaiting);
}

void Guard::forget(SocketId id) {
  if (GuardedSlot* where = slot(id)) where->state.store(GuardedSlot::kFree);
}

// The guard holds one only while it sends it. If that takes longer, its fate isn't known: a
// connection that is sent twice harms two, one that isn't sent only itself.
bool Guard::claim(SocketId id) {
  GuardedSlot* where = slot(id);
  if (where == nullptr) return true;
  for (int i = 0; i < kClaimTries; ++i) {
    if (where->move(GuardedSlot::kWaiting, GuardedSlot::kLoops)) return true;
    const std::uint32_t state = where->state.load();
    if (state == GuardedSlot::kHome) return false;
    if (state != GuardedSlot::kGuards && state != GuardedSlot::kWaiting) return true;
    pause_briefly();
  }
  stop();
  return where->state.load() != GuardedSlot::kHome;
}

void Guard::give_up(SocketId id) {
  if (GuardedSlot* where = slot(id)) (void)where->move(GuardedSlot::kLoops, GuardedSlot::kWaiting);
}

bool Guard::is_home(SocketId id) const {
  const GuardedSlot* where = slot(id);
  return where != nullptr && where->state.load() == GuardedSlot::kHome;
}

// The record has left its queue before this looks: a guard that begins to act later can't see it
// there.
bool Guard::has_taken(int socket, std::uint64_t handed_off_ns) {
  const std::uint32_t phase = table_->phase.load();
  if (phase == GuardTable::kWatches) return false;
  const std::uint64_t key = record_key(cookie_of(socket), handed_off_ns);
  if (phase == GuardTable::kHasActed) return table_->records.has(key);
  return table_->records.claim(key) == ClaimedRecords::Claim::kTaken;
}

}  // namespace lingerd
