// SPDX-License-Identifier: Apache-2.0
// What may take long or never end (a configuration file that is a FIFO, a name service that doesn't
// answer, a new program that hangs) is done by a short-lived child with a deadline. The loop
// watches the descriptor from which its answer comes.
//
// Before an exec the new binary must pass --check-config with the same arguments, and SIGHUP
// reads a file and asks the name service: that is what they are for.
//
// The child must let go of lingerd's descriptors, or a client would wait for the child's end, but
// it may not close them: close(2) of what a peer has sent may never return, in D state. So it
// begins with lingerd's own table and leaves that by close_range(2) with CLOSE_RANGE_UNSHARE
// (Linux 5.9), which makes a table without them. What remains is a copy of what lies below the
// numbers that reserve() took, before a peer could send anything.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace lingerd {

class Errand {
 public:
  static constexpr std::uint64_t kPatienceNs = 10'000'000'000;

  // Once, early in this process's life, and with one thread and table; what is open already must
  // stay so, or have a number above these. Takes kReservedForErrands
  // descriptors at most; none if fewer than kLeastToReserveFrom may be opened (`nofile`).
  static void reserve(std::uint64_t nofile);
  // Whether a child closes nothing that was opened after reserve(). Else it is an ordinary fork(2),
  // which hangs for as long as one of those descriptors does.
  [[nodiscard]] static bool closes_nothing();

  // `work` runs in the child, which has nothing open but its standard descriptors and `out`,
  // for the answer, and whose exit status is what it returns. Throws std::system_error.
  [[nodiscard]] static Errand start(std::uint64_t now_ns, const std::function<int(int out)>& work);
  ~Errand();  // ends the child
  Errand(Errand&& other) noexcept;
  Errand& operator=(Errand&&) = delete;
  Errand(const Errand&) = delete;
  Errand& operator=(const Errand&) = delete;

  // Readable when there is something to collect; -1 once all of the answer is there.
  [[nodiscard]] int fd() const { return answer_.get(); }
  // When to look again at the latest.
  [[nodiscard]] std::uint64_t wake_ns(std::uint64_t now_ns) const;

  struct Answer {
    int status = 0;  // the exit status; kTimedOut or kKilled
    std::string text;
  };
  static constexpr int kTimedOut = -1;
  static constexpr int kKilled = -2;
  // Never waits. Nothing: not finished yet.
  [[nodiscard]] std::optional<Answer> collect(std::uint64_t now_ns);

  // Children that were ended and hadn't gone yet: to be called now and then.
  static void reap();
  static void leave_to_reap(pid_t child);

 private:
  Errand(pid_t child, UniqueFd answer, std::uint64_t deadline_ns, bool shares_table)
      : child_(child),
        answer_(std::move(answer)),
        deadline_ns_(deadline_ns),
        shares_table_(shares_table) {}
  void take(std::string_view part);

  pid_t child_;  // 0: gone
  UniqueFd answer_;
  std::uint64_t deadline_ns_;
  bool shares_table_;  // until the answer's first byte, which isn't part of it
  std::string text_;
};

// Closes all descriptors from `first` on, but those of `keeps`.
void close_from(int first, std::vector<int> keeps = {});

}  // namespace lingerd
