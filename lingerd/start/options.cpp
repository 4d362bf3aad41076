// SPDX-License-Identifier: Apache-2.0
#include "lingerd/start/options.h"

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

Problem set_socket(const OptionInfo&, const Assignment& a, Options& o) {
  if (!is_absolute_file(a.value)) return refuse(a, "an absolute path of a socket");
  if (a.value.size() > kMaxSocketPath) {
    return a.origin + ": " + quoted(a.value) + " has " + std::to_string(a.value.size()) +
           " bytes; the path of a Unix socket has at most " + std::to_string(kMaxSocketPath);
  }
  o.socket = a.value;
  return {};
}

Problem set_socket_mode(const OptionInfo&, const Assignment& a, Options& o) {
  if (parse_number(a.value, 8, 0, 0777, o.socket_mode)) return {};
  return refuse(a, "an octal file mode from 0000 to 0777");
}

Problem set_max_connections(const OptionInfo&, const Assignment& a, Options& o) {
  constexpr auto kMost = std::numeric_limits<std::int32_t>::max();
  std::uint32_t number = 0;
  if (!parse_number(a.value, 10, 1, kMost, number)) {
    return refuse(a, "a number of sockets, 1 or more");
  }
  o.max_connections = number;
  return {};
}

Problem set_max_time(const OptionInfo& info, const Assignment& a, Options& o) {
  const auto [least, most] = info.range;
  if (parse_number(a.value, 10, least, most, o.max_time)) return {};
  return refuse(
      a, "a whole number of seconds from " + std::to_string(least) + " to " + std::to_string(most));
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

Problem set_offload_memory(const OptionInfo&, const Assignment& a, Options& o) {
  std::uint64_t size = 0;
  if (!parse_size(a.value, size)) return refuse(a, "a size: bytes, or a number with K, M or G");
  o.offload_memory = size;
  return {};
}

Problem set_request_memory(const OptionInfo&, const Assignment& a, Options& o) {
  std::uint64_t size = 0;
  if (!parse_size(a.value, size)) return refuse(a, "a size: bytes, or a number with K, M or G");
  o.request_memory = size;
  return {};
}

Problem set_min_rate(const OptionInfo&, const Assignment& a, Options& o) {
  if (parse_size(a.value, o.min_rate)) return {};
  return refuse(a, "a size: bytes, or a number with K, M or G");
}

Problem set_name(const Assignment& a, std::string& out, std::string_view what) {
  if (a.value.empty() || a.value.find_first_of(" \t,:") != a.value.npos) return refuse(a, what);
  out = a.value;
  return {};
}

Problem set_socket_group(const OptionInfo&, const Assignment& a, Options& o) {
  return set_name(a, o.socket_group, "the name or number of a group");
}

Problem set_user(const OptionInfo&, const Assignment& a, Options& o) {
  return set_name(a, o.user, "the name or number of a user");
}

Problem add_allow_user(const OptionInfo&, const Assignment& a, Options& o) {
  return set_name(a, o.allow_users.emplace_back(), "the name or number of one user");
}

Problem set_daemon(const OptionInfo&, const Assignment& a, Options& o) {
  if (a.value != "yes" && a.value != "no") return refuse(a, "yes or no");
  o.daemon = a.value == "yes";
  return {};
}

Problem set_pidfile(const OptionInfo&, const Assignment& a, Options& o) {
  if (!is_absolute_file(a.value)) return refuse(a, "an absolute path of a file");
  o.pidfile = a.value;
  return {};
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
    const OptionInfo* option = find_option(a.key);
    if (!option) return a.origin + ": there is no such option; lingerd --help lists them";
    if (!option->repeatable && assigns(assignments.first(i), a.key)) {
      return a.origin + ": given twice, the second time as " + quoted(a.value);
    }
    Options scratch;
    Options& target = assigns(hidden_by, a.key) ? scratch : options;
    if (Problem problem = option->set(*option, a, target); !problem.empty()) return problem;
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

constexpr std::array<OptionInfo, 12> kOptionInfo{{
    {{"socket", "PATH", kDefaultSocket,
      "Where httpd's children connect. The stats page is PATH.stats."},
     set_socket},
    {{"socket-mode", "MODE", "0660", "Permissions of the socket, octal: which users may hand off."},
     set_socket_mode},
    {{"socket-group", "NAME", "", "Group of the socket: httpd's. Default: left as it is."},
     set_socket_group},
    {{"user", "NAME", "", "Become this user once the socket is there; needs root."}, set_user},
    {{"max-connections", "N", "",
      "Sockets that linger at the same time. Default: what RLIMIT_NOFILE allows, less a reserve."},
     set_max_connections},
    {{"max-time",
      "SECONDS",
      "60",
      "The longest that a socket may linger, whatever httpd asks, and that a stop may take.",
      {1, kMaxMaxTime}},
     set_max_time},
    {{"offload-memory", "SIZE", "",
      "Most memory for responses that lingerd delivers (LingerOffload), in bytes or with K, M or "
      "G; "
      "at it httpd's workers deliver themselves. Default: a quarter of this machine's memory."},
     set_offload_memory},
    {{"request-memory", "SIZE", "",
      "Most bytes of request bodies in the kernel (LingerRequest). Default: an eighth of this "
      "machine's memory, at most half of net.ipv4.tcp_mem's second number."},
     set_request_memory},
    {{"min-rate", "SIZE", "0",
      "Bytes a second that a delivery must move, on average over 10 seconds; slower ones are "
      "ended. "
      "0: none."},
     set_min_rate},
    {{"allow-user", "NAME", "",
      "Take sockets from this user's processes only; repeatable. Default: from every user that the "
      "socket's permissions let in."},
     add_allow_user,
     true},
    {{"daemon", "", "no", "Go to the background once ready, and log to syslog."}, set_daemon},
    {{"pidfile", "PATH", "", "Write the process id there."}, set_pidfile},
}};

const OptionInfo* find_option(std::string_view key) {
  const auto* found = std::find_if(kOptionInfo.begin(), kOptionInfo.end(),
                                   [&](const OptionInfo& info) { return info.key == key; });
  return found == kOptionInfo.end() ? nullptr : found;
}

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

std::string as_config(const Options& options) {
  std::string text;
  const auto put = [&](std::string_view key, const std::string& value) {
    if (!value.empty()) text += std::string(key) + " = " + value + "\n";
  };
  std::array<char, 8> mode{};
  const auto [end, error] =
      std::to_chars(mode.data(), mode.data() + mode.size(), options.socket_mode, 8);
  put("socket", options.socket);
  put("socket-mode", std::string(mode.data(), end));
  put("socket-group", options.socket_group);
  put("user", options.user);
  if (options.max_connections) put("max-connections", std::to_string(*options.max_connections));
  put("max-time", std::to_string(options.max_time));
  if (options.offload_memory) put("offload-memory", std::to_string(*options.offload_memory));
  if (options.request_memory) put("request-memory", std::to_string(*options.request_memory));
  put("min-rate", std::to_string(options.min_rate));
  for (const std::string& user : options.allow_users) put("allow-user", user);
  put("daemon", options.daemon ? "yes" : "no");
  put("pidfile", options.pidfile);
  return text;
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
