// SPDX-License-Identifier: Apache-2.0
// The closer: ends the life of descriptors that a peer chose, in a process of its own.
//
// close(2) of what somebody else made may wait for as long as that somebody likes: for a client
// that takes nothing (SO_LINGER), also where such a socket lies in the queue of a Unix socket; for
// the server of a file system, FUSE's or NFS's, which is asked at each close and not only at the
// last one, and in D state, where no signal reaches; or for a disk that gives back a large file's
// blocks. So the loop closes nothing of which it doesn't know that it is harmless. It writes the
// number into a pipe; a child that shares the loop's descriptor table, and nothing else, reads it
// there and closes it. A child that doesn't come back is left behind, and another one takes its
// place.
//
// A table that two processes share lives as long as the longer-living of them. Hence the last duty:
// a closer whose parent has died closes all sockets, so that none outlives lingerd in the table of
// one that is stuck.
//
// Passing a descriptor to another process wouldn't get rid of it: FUSE and NFS are asked at each
// close(2). clone(2) with CLONE_FILES alone makes a process whose close(2) takes the number out
// of our table at once, and which may hang, be killed or be forgotten without us; a thread in D
// state would keep lingerd from ending. The numbers are read one at a time, so that what a
// hanging closer hasn't read yet can be taken back. The price: each look at a descriptor in the
// loop counts references (a table with one owner needs none).
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/unique_fd.h"

namespace lingerd {

class Closer {
 public:
  // Of no peer's: a socket or a content that was examined when it came.
  static constexpr uid_t kOwn = static_cast<uid_t>(-1);

  Closer() = default;
  ~Closer() { end(); }
  Closer(const Closer&) = delete;
  Closer& operator=(const Closer&) = delete;

  // Before this, descriptors wait. If no process can be had at all, lingerd closes itself and says
  // so. `room`: descriptors that may wait in the table without being in anybody's way.
  void start(std::uint32_t room, std::uint64_t now_ns);

  // Takes what a user's process sent.
  void take(UniqueFd fd, uid_t owner);

  // Passes on what has come, counts what has gone, replaces a process that is stuck. Never waits.
  void look_after(std::uint64_t now_ns);
  // When to do that next at the latest; nothing: no need.
  [[nodiscard]] std::optional<std::uint64_t> next_look_ns() const;

  // Whether more may be received from this user's processes; and whether all that it has sent is
  // gone.
  [[nodiscard]] bool has_room_for(uid_t owner) const;
  [[nodiscard]] bool is_clear(uid_t owner) const { return !users_.contains(owner); }
  // Descriptors that take up more than their room.
  [[nodiscard]] std::size_t excess() const { return waiting() > room_ ? waiting() - room_ : 0; }
  [[nodiscard]] std::size_t waiting() const { return open_; }
  [[nodiscard]] std::size_t stuck() const { return stuck_.size(); }

  // At the end of this process no other one is left, but for those that are stuck, and one that
  // closes the sockets which they would keep.
  void end();
  // The same before an exec, after which the table is this process's own. start() again if that
  // comes to nothing. False: something can't be closed, which an exec would have to.
  [[nodiscard]] bool end_for_exec();

 private:
  static constexpr std::size_t kMost = 12;      // processes, the stuck ones included
  static constexpr std::size_t kMostStuck = 2;  // of one user; what else it sent waits for them
  struct Shared;
  struct Junk {
    int fd = -1;
    uid_t owner = kOwn;
  };
  struct User {
    std::size_t open = 0;
    std::size_t stuck = 0;
    std::vector<int> held;  // while it has kMostStuck
  };
  struct Process {
    std::size_t slot = 0;
    pid_t pid = -1;
    uid_t owner = kOwn;
    std::uint64_t since_ns = 0;
    bool killed = false;
  };

  [[nodiscard]] bool hire(std::uint64_t now_ns);
  [[nodiscard]] std::optional<std::size_t> free_slot() const;
  void queue(const Junk& junk);
  void give();
  void count_closed();
  void forget(const Junk& junk);
  void take_back();
  void leave_behind(std::uint64_t now_ns);
  void look_after_active(std::uint64_t now_ns);
  void look_after_stuck(std::uint64_t now_ns);
  void dismiss(int signal);
  void finish();

  enum class Mode { kNotYet, kChild, kItself };
  Mode mode_ = Mode::kNotYet;
  std::uint32_t room_ = 0;
  Shared* shared_ = nullptr;
  UniqueFd to_;
  UniqueFd from_;
  std::optional<Process> active_;
  std::vector<Process> stuck_;
  std::deque<Junk> waiting_;
  std::deque<Junk> given_;         // in the pipe or in the active one's hand, in this order
  std::uint32_t seen_closed_ = 0;  // of the active one's count
  std::uint64_t hire_again_ns_ = 0;
  std::uint64_t now_ns_ = 0;
  // When the active one last closed something, or had nothing to close.
  std::uint64_t moved_ns_ = 0;
  std::size_t open_ = 0;
  std::unordered_map<uid_t, User> users_;
};

// A process has one descriptor table, and so one closer.
[[nodiscard]] Closer& closer();

}  // namespace lingerd
