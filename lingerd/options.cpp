// SPDX-License-Identifier: Apache-2.0
#include "lingerd/options.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <system_error>

namespace lingerd {
namespace {

std::string quoted(std::string_view value) {
  return "'" + std::string(value) + "'";
}

// The field: what is allowed, as the end of "…: VALUE is not ".
std::string refuse(const Assignment& a, std::string_view allowed) {
  return a.origin + ": " + quoted(a.value) + " is not " + std::string(allowed);
}

// All of `text`, in `base`: no sign, no space, no rest.
bool parse_number(std::string_view text, int base, std::uint32_t least, std::uint32_t most,
                  std::uint32_t& out) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc{} || end != text.data() + text.size()) return false;
  if (number < least || number > most) return false;
  out = number;
  return true;
}

bool is_absolute_file(std::string_view path) {
  return path.starts_with('/') && !path.ends_with('/') && path.find('\0') == path.npos;
}

using Problem = std::string;  // empty: none

Problem set_socket(const Assignment& a, Options& o) {
  if (!is_absolute_file(a.value)) return refuse(a, "an absolute path of a socket");
  if (a.value.size() > kMaxSocketPath) {
    return a.origin + ": " + quoted(a.value) + " has " + std::to_string(a.value.size()) +
           " bytes; the path of a Unix socket has at most " + std::to_string(kMaxSocketPath);
  }
  o.socket = a.value;
  return {};
}

Problem set_socket_mode(const Assignment& a, Options& o) {
  if (parse_number(a.value, 8, 0, 0777, o.socket_mode)) return {};
  return refuse(a, "an octal file mode from 0000 to 0777");
}

Problem set_max_connections(const Assignment& a, Options& o) {
  constexpr auto kMost = std::numeric_limits<std::int32_t>::max();
  std::uint32_t number = 0;
  if (!parse_number(a.value, 10, 1, kMost, number)) {
    return refuse(a, "a number of sockets, 1 or more");
  }
  o.max_connections = number;
  return {};
}

Problem set_max_time(const Assignment& a, Options& o) {
  if (parse_number(a.value, 10, 1, kMaxMaxTime, o.max_time)) return {};
  return refuse(a, "a whole number of seconds from 1 to " + std::to_string(kMaxMaxTime));
}

// A number of bytes, or with one of the units K, M, G.
bool parse_size(std::string_view text, std::uint64_t& out) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 50;
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  const std::size_t index = unit.empty() ? 0 : std::string_view("KMG").find(unit[0]) + 1;
  if (error != std::errc{} || unit.size() > 1 || (index == 0 && !unit.empty())) return false;
  if (number > (kMost >> (index * 10))) return false;
  out = number << (index * 10);
  return true;
}

Problem set_offload_memory(const Assignment& a, Options& o) {
  std::uint64_t size = 0;
  if (!parse_size(a.value, size)) return refuse(a, "a size: bytes, or a number with K, M or G");
  o.offload_memory = size;
  return {};
}

Problem set_min_rate(const Assignment& a, Options& o) {
  if (parse_size(a.value, o.min_rate)) return {};
  return refuse(a, "a size: bytes, or a number with K, M or G");
}

Problem set_name(const Assignment& a, std::string& out, std::string_view what) {
  if (a.value.empty() || a.value.find_first_of(" \t,:") != a.value.npos) return refuse(a, what);
  out = a.value;
  return {};
}

Problem set_socket_group(const Assignment& a, Options& o) {
  return set_name(a, o.socket_group, "the name or number of a group");
}

Problem set_user(const Assignment& a, Options& o) {
  return set_name(a, o.user, "the name or number of a user");
}

Problem add_allow_user(const Assignment& a, Options& o) {
  return set_name(a, o.allow_users.emplace_back(), "the name or number of one user");
}

Problem set_daemon(const Assignment& a, Options& o) {
  if (a.value != "yes" && a.value != "no") return refuse(a, "yes or no");
  o.daemon = a.value == "yes";
  return {};
}

Problem set_pidfile(const Assignment& a, Options& o) {
  if (!is_absolute_file(a.value)) return refuse(a, "an absolute path of a file");
  o.pidfile = a.value;
  return {};
}

struct Setter {
  std::string_view key;
  Problem (*set)(const Assignment&, Options&);
  bool repeatable = false;
};
constexpr std::array<Setter, kOptionInfo.size()> kSetters{{
    {"socket", set_socket},
    {"socket-mode", set_socket_mode},
    {"socket-group", set_socket_group},
    {"user", set_user},
    {"max-connections", set_max_connections},
    {"max-time", set_max_time},
    {"offload-memory", set_offload_memory},
    {"min-rate", set_min_rate},
    {"allow-user", add_allow_user, true},
    {"daemon", set_daemon},
    {"pidfile", set_pidfile},
}};

const Setter* find_setter(std::string_view key) {
  const auto* found = std::find_if(kSetters.begin(), kSetters.end(),
                                   [&](const Setter& setter) { return setter.key == key; });
  return found == kSetters.end() ? nullptr : found;
}

bool assigns(std::span<const Assignment> assignments, std::string_view key) {
  return std::any_of(assignments.begin(), assignments.end(),
                     [&](const Assignment& a) { return a.key == key; });
}

// `hidden_by`: assignments that take precedence. Hidden ones are checked all the same.
Problem apply(std::span<const Assignment> assignments, std::span<const Assignment> hidden_by,
              Options& options) {
  for (std::size_t i = 0; i < assignments.size(); ++i) {
    const Assignment& a = assignments[i];
    const Setter* setter = find_setter(a.key);
    if (!setter) return a.origin + ": there is no such option; lingerd --help lists them";
    if (!setter->repeatable && assigns(assignments.first(i), a.key)) {
      return a.origin + ": given twice, the second time as " + quoted(a.value);
    }
    Options scratch;
    Options& target = assigns(hidden_by, a.key) ? scratch : options;
    if (Problem problem = setter->set(a, target); !problem.empty()) return problem;
  }
  return {};
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  const auto first = text.find_first_not_of(kBlank);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

}  // namespace

ConfigText parse_config(std::string_view text, const std::string& path) {
  ConfigText config;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const auto newline = text.find('\n');
    const std::string_view line = trim(text.substr(0, newline));
    text.remove_prefix(newline == text.npos ? text.size() : newline + 1);
    if (line.empty() || line.front() == '#' || line.front() == ';') continue;

    const std::string where = path + ":" + std::to_string(number) + ": ";
    const auto equals = line.find('=');
    if (equals == line.npos || trim(line.substr(0, equals)).empty()) {
      config.problem = where + quoted(line) + " is not 'key = value', a comment or an empty line";
      return config;
    }
    const std::string key(trim(line.substr(0, equals)));
    config.assignments.push_back({key, std::string(trim(line.substr(equals + 1))), where + key});
  }
  return config;
}

OptionsResult combine(std::span<const Assignment> file, std::span<const Assignment> command_line) {
  OptionsResult result;
  result.problem = apply(file, command_line, result.options);
  if (result.problem.empty()) result.problem = apply(command_line, {}, result.options);
  return result;
}

// 1/32 of 20,000 is 625: enough for a prefork httpd of 600 processes. Over a million sockets at
// once are not a configuration but a runaway, whatever the limit of a container.
std::uint32_t most_connections(std::uint64_t nofile) {
  constexpr std::uint64_t kMost = 1'048'576;
  const std::uint64_t reserve = std::clamp<std::uint64_t>(nofile / 32, 32, 8192);
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(nofile > reserve ? nofile - reserve : 0, 1, kMost));
}

DescriptorShares share_descriptors(std::uint64_t nofile,
                                   std::optional<std::uint32_t> max_connections) {
  constexpr std::uint64_t kOwn = 16;  // epoll, listener, signals, stats page, log, batch in hand
  constexpr std::uint64_t kLeastPeers = 8;
  constexpr std::uint64_t kMostPeers = 65'536;
  const std::uint32_t connections = max_connections.value_or(most_connections(nofile));
  const std::uint64_t taken = connections + kOwn;
  const std::uint64_t peers =
      std::clamp<std::uint64_t>(nofile > taken ? nofile - taken : 0, kLeastPeers, kMostPeers);
  return {connections, static_cast<std::uint32_t>(peers)};
}

std::vector<std::string_view> changed_until_restart(const Options& before, const Options& after) {
  std::vector<std::string_view> keys;
  const auto note = [&](bool differs, std::string_view key) {
    if (differs) keys.push_back(key);
  };
  note(before.socket != after.socket, "socket");
  note(before.socket_mode != after.socket_mode, "socket-mode");
  note(before.socket_group != after.socket_group, "socket-group");
  note(before.user != after.user, "user");
  note(before.daemon != after.daemon, "daemon");
  note(before.pidfile != after.pidfile, "pidfile");
  return keys;
}

}  // namespace lingerd
