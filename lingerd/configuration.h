// SPDX-License-Identifier: Apache-2.0
// The options in force, and what the loop makes of them: read at the start, again on SIGHUP.
#pragma once

#include <cstdint>

#include "lingerd/command_line.h"
#include "lingerd/identity.h"
#include "lingerd/loop.h"
#include "lingerd/options.h"

namespace lingerd {

// Raises RLIMIT_NOFILE to its hard limit and returns it.
[[nodiscard]] std::uint64_t raise_descriptor_limit();

class Configuration {
 public:
  // Throws StartupError if the file, an option, a name or the descriptors don't do.
  Configuration(CommandLine command_line, std::uint64_t nofile);

  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] const Identities& identities() const { return identities_; }
  [[nodiscard]] const LoopSettings& loop_settings() const { return settings_; }

  // Reads the file again and logs what came of it. A file that doesn't do changes nothing.
  const LoopSettings& reload();

 private:
  void read(Options options);
  void log_waiting_changes() const;

  CommandLine command_line_;
  std::uint64_t nofile_;
  Options options_;
  Options started_with_;  // what can't change until a restart is still as it is there
  Identities identities_;
  LoopSettings settings_;
};

}  // namespace lingerd
