// SPDX-License-Identifier: Apache-2.0
// argv and the configuration file, read into what options.h checks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lingerd/start/options.h"

namespace lingerd {

enum class Action {
  kRun,
  kCheckConfig,
  kPrint,  // --help, --version: print `text` and exit 0
  kRefuse  // print `text` as the reason and exit 2
};

struct CommandLine {
  Action action = Action::kRun;
  std::string text;
  std::vector<Assignment> assignments;
  std::optional<std::string> config_path;  // none: kDefaultConfigPath, if there is one
};

[[nodiscard]] std::string help_text();
[[nodiscard]] CommandLine parse_command_line(int argc, const char* const* argv);

// The options that hold: the file's, and over them the command line's. Throws StartupError. Called
// again on SIGHUP.
[[nodiscard]] Options read_options(const CommandLine& command_line);

}  // namespace lingerd
