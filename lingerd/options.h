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

namespace lingerd {

inline constexpr char kDefaultConfigPath[] = "/etc/lingerd/lingerd.conf";

// sun_path has 108 bytes, the last one for the terminating zero: unix(7).
inline constexpr std::size_t kMaxSocketPath = 107;
inline constexpr std::uint32_t kMaxMaxTime = 3600;  // seconds, as kMaxDurationMs of the record

struct Options {
  std::string socket = "/run/lingerd/lingerd.sock";
  std::uint32_t socket_mode = 0660;
  std::string socket_group;                      // name or number; empty: left as it is
  std::string user;                              // name or number; empty: whoever started lingerd
  std::optional<std::uint32_t> max_connections;  // none: what RLIMIT_NOFILE allows
  std::uint32_t max_time = 60;                   // seconds
  std::optional<std::uint64_t> offload_memory;   // bytes; none: a quarter of this machine's memory
  std::uint64_t min_rate = 0;                    // bytes a second; 0: none
  std::vector<std::string> allow_users;          // names or numbers; empty: everybody
  bool daemon = false;
  std::string pidfile;  // empty: none

  bool operator==(const Options&) const = default;
};

// What --help, the shipped lingerd.conf and the manual say about an option.
struct OptionInfo {
  std::string_view key;            // --key VALUE and `key = VALUE`
  std::string_view value;          // what VALUE is; empty: a flag, yes or no in the file
  std::string_view default_value;  // as it would be written; empty: none
  std::string_view help;
};

inline constexpr std::array<OptionInfo, 11> kOptionInfo{{
    {"socket", "PATH", "/run/lingerd/lingerd.sock",
     "Where httpd's children connect. The stats page is PATH.stats."},
    {"socket-mode", "MODE", "0660", "Permissions of the socket, octal: who may hand over."},
    {"socket-group", "NAME", "", "Group of the socket: httpd's. Default: left as it is."},
    {"user", "NAME", "", "Become this user once the socket is there; needs root."},
    {"max-connections", "N", "",
     "Sockets that linger at the same time. Default: what RLIMIT_NOFILE allows, less a reserve."},
    {"max-time", "SECONDS", "60",
     "The longest that a socket may linger, whatever httpd asks, and that a stop may take: "
     "1-3600."},
    {"offload-memory", "SIZE", "",
     "Most memory for responses that lingerd delivers (LingerOffload), in bytes or with K, M or G; "
     "at it httpd's workers deliver themselves. Default: a quarter of this machine's memory."},
    {"min-rate", "SIZE", "0",
     "Bytes a second that a delivery must move, on average over 10 seconds; slower ones are ended. "
     "0: none."},
    {"allow-user", "NAME", "",
     "Take sockets from this user's processes only; repeatable. Default: from whoever the socket's "
     "permissions let in."},
    {"daemon", "", "no", "Go to the background once ready, and log to syslog."},
    {"pidfile", "PATH", "", "Write the process id there."},
}};

// One option as somebody gave it.
struct Assignment {
  std::string key;
  std::string value;
  std::string origin;  // for messages: "--max-time" or "/etc/lingerd/lingerd.conf:7: max-time"
};

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

// How a limit of `nofile` descriptors is shared out.
struct DescriptorShares {
  std::uint32_t max_connections;  // lingering sockets
  std::uint32_t max_peers;        // connections from httpd's children, one each
};
inline constexpr std::uint64_t kLeastDescriptors = 64;

// The most that --max-connections may be, and its default: all but a reserve for peers, for
// descriptors on their way in, and for lingerd's own.
[[nodiscard]] std::uint32_t most_connections(std::uint64_t nofile);
[[nodiscard]] DescriptorShares share_descriptors(std::uint64_t nofile,
                                                 std::optional<std::uint32_t> max_connections);

// Keys that differ and that a running lingerd can't change.
[[nodiscard]] std::vector<std::string_view> changed_until_restart(const Options& before,
                                                                  const Options& after);

}  // namespace lingerd
