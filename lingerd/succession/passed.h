// SPDX-License-Identifier: Apache-2.0
// What a lingerd finds at its start that an earlier one has left: descriptors, by the names that
// sd_listen_fds_with_names(3) gives them, and variables.
#pragma once

#include <cstdlib>
#include <string>
#include <string_view>

namespace lingerd {

// systemd puts all names into one environment string: keep them short.
constexpr std::string_view kInName = "in";
constexpr std::string_view kOutName = "out";
constexpr std::string_view kProbeName = "probe";
constexpr std::string_view kOwnListenerName = "own";
constexpr std::string_view kSystemdsListenerName = "theirs";
constexpr std::string_view kPidFileName = "pid";
constexpr std::string_view kKeeperName = "keeper";

// From one lingerd to the next, by exec.
constexpr char kSuccessorVariable[] =
    "LINGERD_SUCCESSOR";                                // 1, or why a keeper became this process
constexpr char kProgramVariable[] = "LINGERD_PROGRAM";  // its path: /proc/self/exe may be gone
constexpr char kKeeperVariable[] = "LINGERD_KEEPER";    // the keeper's process id

// Its value, which no process that is started later gets.
inline std::string take_variable(const char* name) {
  const char* value = std::getenv(name);
  std::string text = value == nullptr ? "" : value;
  unsetenv(name);
  return text;
}

}  // namespace lingerd
