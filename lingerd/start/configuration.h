// SPDX-License-Identifier: Apache-2.0
// The options in force, and what the loop makes of them: read at the start, again on SIGHUP.
#pragma once

#include <cstdint>
#include <string>

#include "base/errand.h"
#include "lingerd/core/settings.h"
#include "lingerd/start/command_line.h"
#include "lingerd/start/identity.h"
#include "lingerd/start/options.h"

namespace lingerd {

// Raises RLIMIT_NOFILE to its hard limit and returns it.
[[nodiscard]] std::uint64_t raise_descriptor_limit();

class Configuration {
 public:
  // Throws StartupError if the file, an option, a name or the descriptors don't do.
  Configuration(CommandLine command_line, std::uint64_t nofile);

  // Of a successor whose own doesn't do, because of `problem`: that of its predecessor, as it
  // travels in LoopSettings::text, with numbers for names. A lingerd that has inherited sockets
  // doesn't end because of a typo: it goes on with those options, says so in its log and in
  // `systemctl status`, and takes the mended file with a reload.
  [[nodiscard]] static Configuration inherited(CommandLine command_line, std::uint64_t nofile,
                                               const std::string& text, const std::string& problem);

  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] const Identities& identities() const { return identities_; }
  [[nodiscard]] const LoopSettings& loop_settings() const { return settings_; }

  // SIGHUP: a child reads the file again and looks up its names, which may take any time; what
  // comes of it is logged, and told to systemd. A file that doesn't do changes nothing.
  [[nodiscard]] Errand begin_reload(std::uint64_t now_ns) const;
  const LoopSettings& finish_reload(const Errand::Answer& answer);

  // Logs which keys differ from those that a predecessor had, and can't change in a successor.
  void compare_with(const std::string& predecessors_text) const;

 private:
  Configuration() = default;
  void apply(Options options, Identities identities);
  void adopt_answer(const std::string& text);

  CommandLine command_line_;
  std::uint64_t nofile_ = 0;
  Options options_;
  Options started_with_;  // what can't change until a restart is still as it is there
  Identities identities_;
  LoopSettings settings_;
};

}  // namespace lingerd
