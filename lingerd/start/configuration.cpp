// SPDX-License-Identifier: Apache-2.0
#include "lingerd/start/configuration.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "base/notify.h"
#include "base/startup_error.h"

namespace lingerd {
namespace {

void check_descriptors(const Options& options, std::uint64_t nofile) {
  if (nofile < kLeastDescriptors) {
    throw StartupError(ExitStatus::kFailure, "RLIMIT_NOFILE is " + std::to_string(nofile) +
                                                 "; lingerd needs at least " +
                                                 std::to_string(kLeastDescriptors) +
                                                 ": raise LimitNOFILE= in its unit, or ulimit -n");
  }
  const std::uint32_t most = most_connections(nofile);
  if (options.max_connections.value_or(1) > most) {
    throw StartupError(ExitStatus::kBadArgument,
                       "max-connections: " + std::to_string(*options.max_connections) +
                           " is more than the " + std::to_string(most) + " that RLIMIT_NOFILE (" +
                           std::to_string(nofile) +
                           ") leaves room for; lower it, or raise LimitNOFILE= in lingerd's unit, "
                           "or ulimit -Hn");
  }
}

std::uint64_t memory_of_machine() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long size = sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0
             ? static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(size)
             : 0;
}

// What lies in receive buffers is the whole system's, so not more than half of what the kernel
// gives before it makes all of them smaller.
std::uint64_t memory_for_requests() {
  std::uint64_t low = 0;
  std::uint64_t pressure = 0;
  std::uint64_t memory = memory_of_machine() / 8;
  const long size = sysconf(_SC_PAGESIZE);
  if (std::ifstream("/proc/sys/net/ipv4/tcp_mem") >> low >> pressure && size > 0) {
    memory = std::min(memory, pressure * static_cast<std::uint64_t>(size) / 2);
  }
  return memory;
}

// With numbers for names: what they mean doesn't change, and nobody has to be asked.
Options resolved(Options options, const Identities& identities) {
  if (identities.user) options.user = std::to_string(identities.user->uid);
  if (identities.socket_group) options.socket_group = std::to_string(*identities.socket_group);
  options.allow_users.clear();
  for (const uid_t uid : identities.allowed_uids) {
    options.allow_users.push_back(std::to_string(uid));
  }
  return options;
}

Options parse(const std::string& text) {
  const ConfigText config = parse_config(text, "what the lingerd before this one had");
  OptionsResult result = combine(config.assignments, {});
  const std::string& problem = config.problem.empty() ? result.problem : config.problem;
  if (!problem.empty()) throw StartupError(ExitStatus::kFailure, problem);
  return std::move(result.options);
}

// What the child of a reload says: "user group uid uid ...\n", each a number or "-", and the
// options.
std::string answer_of(const Options& options, const Identities& identities) {
  const auto number = [](const auto& id) { return id ? std::to_string(*id) : std::string("-"); };
  std::optional<uid_t> user;
  if (identities.user) user = identities.user->uid;
  std::string line = number(user) + " " + number(identities.socket_group);
  for (const uid_t uid : identities.allowed_uids) line += " " + std::to_string(uid);
  return line + "\n" + as_config(options);
}

int write_all(int fd, std::string_view text, int status) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n <= 0) return static_cast<int>(ExitStatus::kFailure);
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return status;
}

}  // namespace

std::uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  const rlimit raised{limit.rlim_max, limit.rlim_max};
  return setrlimit(RLIMIT_NOFILE, &raised) == 0 ? limit.rlim_max : limit.rlim_cur;
}

Configuration::Configuration(CommandLine command_line, std::uint64_t nofile)
    : command_line_(std::move(command_line)), nofile_(nofile) {
  if (command_line_.action == Action::kRefuse) {
    throw StartupError(ExitStatus::kBadArgument, command_line_.text);
  }
  Options options = read_options(command_line_);
  check_descriptors(options, nofile_);
  Identities identities = look_up(options);
  apply(std::move(options), std::move(identities));
  started_with_ = options_;
}

Configuration Configuration::inherited(CommandLine command_line, std::uint64_t nofile,
                                       const std::string& text, const std::string& problem) {
  Configuration configuration;
  configuration.command_line_ = std::move(command_line);
  configuration.nofile_ = nofile;
  Options options = parse(text);
  if (options.max_connections > most_connections(nofile)) options.max_connections.reset();
  check_descriptors(options, nofile);
  Identities identities = look_up(options);
  configuration.apply(std::move(options), std::move(identities));
  configuration.started_with_ = configuration.options_;
  log::write(log::Level::kError,
             "this configuration doesn't do: %s. Going on with that of the lingerd before, because "
             "of the sockets that it has left; mend it, then reload",
             problem.c_str());
  notify_status("Runs with its old configuration, the new one doesn't do: " + problem);
  return configuration;
}

void Configuration::apply(Options options, Identities identities) {
  const DescriptorShares shares = share_descriptors(nofile_, options.max_connections);
  settings_.max_connections = shares.max_connections;
  settings_.max_peers = shares.max_peers;
  settings_.batch = shares.batch;
  settings_.unwanted = shares.unwanted;
  settings_.max_time_ms = options.max_time * 1000;
  settings_.offload_memory = options.offload_memory.value_or(memory_of_machine() / 4);
  settings_.request_memory = options.request_memory.value_or(memory_for_requests());
  settings_.min_rate = options.min_rate;
  settings_.allowed_uids = identities.allowed_uids;
  settings_.watchdog_us = watchdog_interval_us();
  settings_.text = as_config(resolved(options, identities));
  options_ = std::move(options);
  identities_ = std::move(identities);
}

Errand Configuration::begin_reload(std::uint64_t now_ns) const {
  notify_reloading();
  return Errand::start(now_ns, [this](int out) {
    try {
      const Configuration fresh(command_line_, nofile_);
      return write_all(out, answer_of(fresh.options_, fresh.identities_), 0);
    } catch (const StartupError& error) {
      return write_all(out, error.what(), static_cast<int>(error.status()));
    }
  });
}

void Configuration::adopt_answer(const std::string& text) {
  const auto newline = text.find('\n');
  std::istringstream line(text.substr(0, newline));
  std::string user;
  std::string group;
  line >> user >> group;
  Identities identities;
  if (user != "-") {
    const auto uid = static_cast<uid_t>(std::stoul(user));
    identities.user = User{uid, std::nullopt, {}};
  }
  if (group != "-") identities.socket_group = static_cast<gid_t>(std::stoul(group));
  for (uid_t uid = 0; line >> uid;) identities.allowed_uids.push_back(uid);
  apply(parse(text.substr(newline + 1)), std::move(identities));
}

const LoopSettings& Configuration::finish_reload(const Errand::Answer& answer) {
  std::string problem = answer.text;
  if (answer.status == Errand::kTimedOut) {
    problem = "reading the file, or looking up the names in it, took longer than 10 seconds";
  } else if (answer.status == Errand::kKilled || (answer.status != 0 && problem.empty())) {
    problem = "the process that read it was ended";
  }
  try {
    if (answer.status == 0) {
      adopt_answer(answer.text);
      problem.clear();
    }
  } catch (const std::exception& error) {
    problem = error.what();
  }
  if (problem.empty()) {
    for (const std::string_view key : changed_until_restart(started_with_, options_)) {
      log::write(log::Level::kWarning, "%.*s has changed: takes effect after a stop and a start",
                 static_cast<int>(key.size()), key.data());
    }
    log::write(log::Level::kNotice,
               "configuration read again: max-connections %u, max-time %u, allow-user %zu named",
               settings_.max_connections, options_.max_time, options_.allow_users.size());
    notify_status("");
  } else {
    problem = "configuration left as it was: " + problem;
    log::write(log::Level::kError, "%s", problem.c_str());
    notify_status(problem);
  }
  notify_reloaded();
  return settings_;
}

void Configuration::compare_with(const std::string& predecessors_text) const {
  if (predecessors_text.empty()) return;
  const Options before = parse(predecessors_text);
  for (const std::string_view key :
       changed_until_restart(before, resolved(options_, identities_))) {
    log::write(log::Level::kWarning, "%.*s has changed: takes effect after a stop and a start",
               static_cast<int>(key.size()), key.data());
  }
}

}  // namespace lingerd
