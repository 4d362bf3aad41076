// SPDX-License-Identifier: Apache-2.0
// What may take long or never end (a configuration file that is a FIFO, a name service that doesn't
// answer, a new program that hangs) is done by a short-lived child with a deadline. The loop
// watches the descriptor from which its answer comes.
//
// Before an exec the new binary must pass --check-config with the same arguments, and SIGHUP
// reads a file and asks the name service: that is what they are for.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace lingerd {

class Errand {
 public:
  static constexpr std::uint64_t kPatienceNs = 10'000'000'000;

  // Forks; `work` runs in the child, which has nothing open but its standard descriptors and `out`,
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
  Errand(pid_t child, UniqueFd answer, std::uint64_t deadline_ns)
      : child_(child), answer_(std::move(answer)), deadline_ns_(deadline_ns) {}
  pid_t child_;  // 0: gone
  UniqueFd answer_;
  std::uint64_t deadline_ns_;
  std::string text_;
};

// Closes all descriptors from `first` on, but those of `keeps`.
void close_from(int first, std::vector<int> keeps = {});

}  // namespace lingerd
