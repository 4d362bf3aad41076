// SPDX-License-Identifier: Apache-2.0
// The child that keeps everything while its parent becomes another program (successor.h).
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace lingerd {

class Keeper {
 public:
  // Forks it. `go_on` is called in it if the successor, this process after its exec, ends or says
  // nothing for kPatienceMs (it has been killed then); with the reason, and doesn't return. Throws
  // std::system_error. Of all descriptors it keeps those of `keeps` alone: no lock, no client's
  // socket.
  static constexpr int kPatienceMs = 15'000;
  Keeper(std::vector<int> keeps, const std::function<void(const std::string& why)>& go_on);
  ~Keeper();  // no exec after all: ends it
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  // The successor's end of the line, and the process at the other one.
  [[nodiscard]] int line() const { return line_.get(); }
  [[nodiscard]] pid_t pid() const { return child_; }

  // In the successor: says that it serves. When this returns the keeper lets go, or is gone.
  static void dismiss(UniqueFd line, pid_t keeper);

 private:
  UniqueFd line_;
  pid_t child_ = 0;
};

}  // namespace lingerd
