// SPDX-License-Identifier: Apache-2.0
// What keeps lingerd from starting: thrown where it is found, reported in one place (main.cpp).
#pragma once

#include <stdexcept>
#include <string>

namespace lingerd {

// As the Linux Standard Base has them for init scripts.
enum class ExitStatus : int {
  kOk = 0,
  kFailure = 1,
  kBadArgument = 2,
  kNoPrivilege = 4,
  kNotConfigured = 6,
};

class StartupError : public std::runtime_error {
 public:
  StartupError(ExitStatus status, const std::string& what)
      : std::runtime_error(what), status_(status) {}
  [[nodiscard]] ExitStatus status() const { return status_; }

 private:
  ExitStatus status_;
};

}  // namespace lingerd
