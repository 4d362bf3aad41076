// SPDX-License-Identifier: Apache-2.0
#include "lingerd/start/command_line.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <ios>
#include <iterator>
#include <sstream>
#include <system_error>
#include <utility>

#include "base/flags.h"
#include "base/startup_error.h"
#include "contract/version.h"

namespace lingerd {
namespace {

constexpr char kHead[] =
    "Usage: lingerd [OPTION]...\n"
    "Closes TCP connections for Apache httpd: mod_linger hands off each socket whose\n"
    "last byte has been sent, and lingerd waits for the client.\n"
    "\n";
constexpr char kFoot[] =
    "\n"
    "All but the last four are also keys of the configuration file, without dashes:\n"
    "'max-time = 60'. SIGHUP reads it again; SIGTERM takes no more sockets and lets\n"
    "those that linger end.\n";

// Of the command line alone.
constexpr std::array<Flag, 4> kCommandFlags{{
    {"config", "FILE", kDefaultConfigPath, "Read options from there; the default need not exist."},
    {"check-config", "", "", "Say whether options and configuration file are fine, and exit."},
    {"version", "", "", "Print the version and exit."},
    {"help", "", "", "Print this and exit."},
}};

std::vector<Flag> all_flags() {
  std::vector<Flag> flags(kOptionInfo.begin(), kOptionInfo.end());
  flags.insert(flags.end(), kCommandFlags.begin(), kCommandFlags.end());
  return flags;
}

CommandLine& finish(CommandLine& command_line, Action action, const std::string& text) {
  command_line.action = action;
  command_line.text = text;
  return command_line;
}

// Reads all of `path`; false with errno.
bool read_file(const std::string& path, std::string& out) {
  errno = 0;
  // Opening a directory succeeds, reading it doesn't, and a stream doesn't say why.
  if (std::error_code ignored; std::filesystem::is_directory(path, ignored)) {
    errno = EISDIR;
    return false;
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) return false;
  out.assign(std::istreambuf_iterator<char>(file), {});
  return !file.bad();
}

}  // namespace

std::string help_text() {
  std::string text = kHead;
  for (const Flag& flag : all_flags()) append_help(text, flag);
  return text + kFoot;
}

CommandLine parse_command_line(int argc, const char* const* argv) {
  CommandLine command_line;
  const GivenFlags flags = split_arguments(argc, argv, all_flags(), "lingerd");
  if (flags.has("help")) return finish(command_line, Action::kPrint, help_text());
  if (flags.has("version")) {
    return finish(command_line, Action::kPrint, std::string("lingerd ") + kVersion + "\n");
  }
  if (!flags.problem.empty()) return finish(command_line, Action::kRefuse, flags.problem);
  for (const auto& [key, value] : flags.given) {
    if (key.empty()) {
      return finish(command_line, Action::kRefuse,
                    value + ": there is no such option; lingerd --help lists them");
    }
    // A daemon changes to the root directory, and SIGHUP reads the file again.
    if (key == "config") command_line.config_path = std::filesystem::absolute(value).string();
    // Whether a value is fine is options.h's to say, for flags and keys alike.
    if (const OptionInfo* option = find_option(key)) {
      command_line.assignments.push_back({key, option->value.empty() ? "yes" : value, "--" + key});
    }
  }
  if (flags.has("check-config")) command_line.action = Action::kCheckConfig;
  return command_line;
}

Options read_options(const CommandLine& command_line) {
  const std::string path = command_line.config_path.value_or(kDefaultConfigPath);
  ConfigText config;
  std::string text;
  if (read_file(path, text)) {
    config = parse_config(text, path);
  } else if (command_line.config_path || errno != ENOENT) {
    throw StartupError(ExitStatus::kNotConfigured, "the configuration file " + path +
                                                       " can't be read: " + std::strerror(errno) +
                                                       "; --config names another");
  }
  if (!config.problem.empty()) throw StartupError(ExitStatus::kBadArgument, config.problem);
  OptionsResult result = combine(config.assignments, command_line.assignments);
  if (!result.problem.empty()) throw StartupError(ExitStatus::kBadArgument, result.problem);
  return std::move(result.options);
}

}  // namespace lingerd
