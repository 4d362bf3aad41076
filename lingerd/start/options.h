// SPDX-License-Identifier: Apache-2.0
// lingerd's options: their names, defaults and ranges, declared once. A flag and a key of the
// configuration file are the same thing under the same name, and pass through the same check. Pure:
// reads no file and asks the system nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/flags.h"
#include "base/unix_limits.h"
#include "contract/defaults.h"

namespace lingerd {

inline constexpr char kDefaultConfigPath[] = "/etc/lingerd/lingerd.conf";

inline constexpr std::uint32_t kMaxMaxTime = 3600;  // seconds, as kMaxDurationMs of the record

struct Options {
  std::string socket = kDefaultSocket;
  std::uint32_t socket_mode = 0660;
  std::string socket_group;  // name or number; empty: left as it is
  std::string user;          // name or number; empty: the one that started lingerd
  std::optional<std::uint32_t> max_connections;  // none: what RLIMIT_NOFILE allows
  std::uint32_t max_time = 60;                   // seconds
  std::optional<std::uint64_t> offload_memory;   // bytes; none: a quarter of this machine's memory
  std::optional<std::uint64_t> request_memory;   // bytes; none: an eighth of this machine's memory
  std::uint64_t min_rate = 0;                    // bytes a second; 0: none
  std::vector<std::string> allow_users;          // names or numbers; empty: everybody
  bool daemon = false;
  std::string pidfile;  // empty: none

  bool operator==(const Options&) const = default;
};

// One option as somebody gave it.
struct Assignment {
  std::string key;
  std::string value;
  std::string origin;  // for messages: "--max-time" or "/etc/lingerd/lingerd.conf:7: max-time"
};

// All there is to an option, once: flag and key, default, range, help (the manual and the shipped
// lingerd.conf are checked against them), and how it is set.
struct OptionInfo : Flag {
  // Returns what is wrong with the value, or "".
  std::string (*set)(const OptionInfo&, const Assignment&, Options&);
  bool repeatable = false;
};
extern const std::array<OptionInfo, 12> kOptionInfo;
[[nodiscard]] const OptionInfo* find_option(std::string_view key);  // or nullptr

// The lines of a configuration file: `key = value`, empty, or a comment after # or ; in the first
// column. A problem names the file and the line.
struct ConfigText {
  std::vector<Assignment> assignments;
  std::string problem;  // empty: none
};
[[nodiscard]] ConfigText parse_config(std::string_view text, const std::string& path);

// Checks and applies what the file and then the command line say; a key of the command line hides
// the file's, all of them where it may be repeated. Each problem names the option, what was given
// and what is allowed.
struct OptionsResult {
  Options options;
  std::string problem;  // empty: none
};
[[nodiscard]] OptionsResult combine(std::span<const Assignment> file,
                                    std::span<const Assignment> command_line);

// The text of a configuration file that says exactly this, defaults included where they are values.
[[nodiscard]] std::string as_config(const Options& options);

// Keys that differ and that a running lingerd can't change.
[[nodiscard]] std::vector<std::string_view> changed_until_restart(const Options& before,
                                                                  const Options& after);

}  // namespace lingerd
