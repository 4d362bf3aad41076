// SPDX-License-Identifier: Apache-2.0
// The loop's guard: a small process that shares lingerd's descriptors and nothing else with it
// (clone(2) with CLONE_FILES), so that a loop that is stopped, spins or hangs in a system call
// holds up no request of a parked connection. When the loop has given no sign of life for a second
// the guard gives those that ask back to httpd, parked ones as well as those whose record lies
// unread in a peer's queue. Nothing else waits for lingerd: lingers and deliveries go on when the
// loop does. It never closes a descriptor of the loop's,
// and leaves to the loop copies of what had better not be closed by anybody but the closer.
//
// The descriptor table lives as long as one of both, so the guard dies with the loop
// (PR_SET_PDEATHSIG), and has to be gone before an exec: that would leave it all open sockets.
//
// Between guard and loop stands, in a page of shared memory, whose turn it is with each parked
// connection: one compare-and-exchange, so that it goes home once. At records in a peer's queue
// the guard only peeks (SO_PEEK_OFF), and leaves their keys for the loop, which lets go of them.
// It is no thread, because SIGSTOP, a spin or a D state would have it too.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "lingerd/core/carry.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/guard_table.h"

namespace lingerd {

class Guard {
 public:
  // Throws std::system_error if the memory can't be had.
  Guard();
  ~Guard();
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  // Starts it, or starts it again. No process to be had: lingerd goes on without.
  void start();
  // Ends it, and waits for that: from then on only the loop has what is parked.
  void stop();
  [[nodiscard]] bool running() const { return pid_ > 0; }

  void beat() { table_->beats.fetch_add(1, std::memory_order_relaxed); }

  // A connection is parked, to be sent to `way`; it is no more, and its number may be another's.
  void watch(SocketId id, int way, const Stay& stay);
  void forget(SocketId id);
  // True: the guard leaves it alone until give_up or forget. False: the guard has sent it home.
  [[nodiscard]] bool claim(SocketId id);
  void give_up(SocketId id);
  [[nodiscard]] bool is_home(SocketId id) const;

  // Whether the guard has sent home the connection that this record brings.
  [[nodiscard]] bool has_taken(int socket, std::uint64_t handed_off_ns);
  // Some records in queues may have been.
  [[nodiscard]] bool has_acted() const { return table_->phase.load() != GuardTable::kWatches; }

  // Copies that it has left, to be closed. False: no more.
  [[nodiscard]] bool take_left(LeftCopies::Copy& copy) { return table_->copies.take(copy); }

  // Connections that it has sent home so far.
  [[nodiscard]] std::uint64_t sent() const { return table_->sent.load(); }
  [[nodiscard]] std::uint64_t sent_unread() const { return table_->unread.load(); }

 private:
  [[nodiscard]] GuardedSlot* slot(SocketId id) const;
  GuardTable* table_ = nullptr;
  GuardedSlot* slots_ = nullptr;
  std::size_t size_ = 0;
  std::size_t bytes_ = 0;
  pid_t pid_ = 0;
};

}  // namespace lingerd
