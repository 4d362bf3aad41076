// SPDX-License-Identifier: Apache-2.0
#include "lingerd/configuration.h"

#include <sys/resource.h>
#include <unistd.h>

#include <utility>

#include "lingerd/log.h"
#include "lingerd/notify.h"
#include "lingerd/startup_error.h"

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

}  // namespace

std::uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  const rlimit raised{limit.rlim_max, limit.rlim_max};
  return setrlimit(RLIMIT_NOFILE, &raised) == 0 ? limit.rlim_max : limit.rlim_cur;
}

Configuration::Configuration(CommandLine command_line, std::uint64_t nofile)
    : command_line_(std::move(command_line)), nofile_(nofile) {
  read(read_options(command_line_));
  started_with_ = options_;
}

// All checks first: nothing changes unless everything does.
void Configuration::read(Options options) {
  check_descriptors(options, nofile_);
  Identities identities = look_up(options);
  const DescriptorShares shares = share_descriptors(nofile_, options.max_connections);
  settings_.max_connections = shares.max_connections;
  settings_.max_peers = shares.max_peers;
  settings_.max_time_ms = options.max_time * 1000;
  settings_.offload_memory = options.offload_memory.value_or(memory_of_machine() / 4);
  settings_.min_rate = options.min_rate;
  settings_.allowed_uids = identities.allowed_uids;
  settings_.watchdog_us = watchdog_interval_us();
  options_ = std::move(options);
  identities_ = std::move(identities);
}

const LoopSettings& Configuration::reload() {
  notify_reloading();
  try {
    read(read_options(command_line_));
    log_waiting_changes();
    log::write(log::Level::kNotice,
               "configuration read again: max-connections %u, max-time %u, allow-user %zu named",
               settings_.max_connections, options_.max_time, options_.allow_users.size());
  } catch (const StartupError& error) {
    log::write(log::Level::kError, "configuration left as it was: %s", error.what());
  }
  notify_ready();
  return settings_;
}

void Configuration::log_waiting_changes() const {
  for (const std::string_view key : changed_until_restart(started_with_, options_)) {
    log::write(log::Level::kWarning, "%.*s has changed: takes effect after a restart",
               static_cast<int>(key.size()), key.data());
  }
}

}  // namespace lingerd
