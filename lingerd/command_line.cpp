// SPDX-License-Identifier: Apache-2.0
#include "lingerd/command_line.h"

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "lingerd/startup_error.h"
#include "lingerd/version.h"

namespace lingerd {
namespace {

constexpr char kDescription[] =
    "lingerd closes TCP connections for Apache httpd: mod_linger hands it each socket whose last "
    "byte has been sent, and lingerd waits for the client.";
constexpr char kFooter[] =
    "The options above are also the keys of the configuration file, without the dashes:\n"
    "'max-time = 60'. SIGHUP reads it again; SIGTERM takes no more sockets and lets those that\n"
    "linger end.";

// CLI11 splits argv and writes --help; checking values is options.h's, for flags and keys alike.
struct Parser {
  explicit Parser(CommandLine& out) : command_line(out) {
    app.name("lingerd");
    app.footer(kFooter);
    app.allow_extras();  // refused below, in our words
    app.get_formatter()->column_width(30);
    for (const OptionInfo& info : kOptionInfo) add(info);
    app.add_option("--config", config_path)
        ->type_name("FILE")
        ->description("Read options from there. Default: " + std::string(kDefaultConfigPath) +
                      ", if there is one.")
        ->take_last();
    app.add_flag("--check-config", check_config,
                 "Say whether the options and the configuration file are fine, and exit.");
    app.add_flag("--version", version, "Print the version and exit.");
  }

  void add(const OptionInfo& info) {
    const std::string flag = "--" + std::string(info.key);
    std::string help(info.help);
    if (!info.default_value.empty()) help += " Default: " + std::string(info.default_value) + ".";
    if (info.value.empty()) {
      app.add_flag_callback(
          flag, [this, key = info.key] { assign(key, "yes"); }, help);
      return;
    }
    // A vector, so that giving one twice reaches options.h, which says so better.
    app.add_option_function<std::vector<std::string>>(
           flag,
           [this, key = info.key](const std::vector<std::string>& values) {
             for (const std::string& value : values) assign(key, value);
           },
           help)
        ->type_name(std::string(info.value))
        ->allow_extra_args(false);
  }

  void assign(std::string_view key, const std::string& value) {
    command_line.assignments.push_back({std::string(key), value, "--" + std::string(key)});
  }

  CommandLine& command_line;
  CLI::App app{kDescription};
  std::string config_path;
  bool check_config = false;
  bool version = false;
};

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

CommandLine parse_command_line(int argc, const char* const* argv) {
  CommandLine command_line;
  Parser parser(command_line);
  try {
    parser.app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return finish(command_line, Action::kPrint, parser.app.help());
  } catch (const CLI::ParseError& error) {
    return finish(command_line, Action::kRefuse, error.what());
  }
  if (parser.version) {
    return finish(command_line, Action::kPrint, std::string("lingerd ") + kVersion + "\n");
  }
  if (const auto extras = parser.app.remaining(); !extras.empty()) {
    return finish(command_line, Action::kRefuse,
                  extras.front() + ": there is no such option; lingerd --help lists them");
  }
  // A daemon changes to the root directory, and SIGHUP reads the file again.
  if (parser.app.count("--config") > 0) {
    command_line.config_path = std::filesystem::absolute(parser.config_path).string();
  }
  if (parser.check_config) command_line.action = Action::kCheckConfig;
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
