// SPDX-License-Identifier: Apache-2.0
#include "lingerd/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "lingerd/startup_error.h"
#include "lingerd/version.h"

namespace lingerd {
namespace {

constexpr char kHead[] =
    "Usage: lingerd [OPTION]...\n"
    "Closes TCP connections for Apache httpd: mod_linger hands over each socket whose\n"
    "last byte has been sent, and lingerd waits for the client.\n"
    "\n";
constexpr char kFoot[] =
    "\n"
    "All but the last five are also keys of the configuration file, without dashes:\n"
    "'max-time = 60'. SIGHUP reads it again; SIGTERM takes no more sockets and lets\n"
    "those that linger end.\n";

// Of the command line alone.
constexpr std::array<OptionInfo, 5> kCommandInfo{{
    {"config", "FILE", kDefaultConfigPath, "Read options from there; the default need not exist."},
    {"takeover", "", "",
     "Take over from the lingerd that runs at the socket: all that lingers, the counters, httpd's "
     "connections. It ends once this one serves."},
    {"check-config", "", "", "Say whether options and configuration file are fine, and exit."},
    {"version", "", "", "Print the version and exit."},
    {"help", "", "", "Print this and exit."},
}};

// CLI11 splits argv; checking values is options.h's, for flags and keys alike.
struct Parser {
  explicit Parser(CommandLine& out) : command_line(out) {
    app.set_help_flag("-h,--help");
    app.allow_extras();  // refused below, in our words
    for (const OptionInfo& info : kOptionInfo) add(info);
    app.add_option("--config", config_path)->take_last();
    app.add_flag("--takeover", command_line.takeover)->disable_flag_override();
    app.add_flag("--check-config", check_config)->disable_flag_override();
    app.add_flag("--version", version)->disable_flag_override();
  }

  void add(const OptionInfo& info) {
    const std::string flag = "--" + std::string(info.key);
    if (info.value.empty()) {
      app.add_flag_callback(flag, [this, key = info.key] { assign(key, "yes"); })
          ->disable_flag_override();
      return;
    }
    // A vector, so that giving one twice reaches options.h, which says so better.
    app.add_option_function<std::vector<std::string>>(
           flag,
           [this, key = info.key](const std::vector<std::string>& values) {
             for (const std::string& value : values) assign(key, value);
           })
        ->allow_extra_args(false);
  }

  void assign(std::string_view key, const std::string& value) {
    command_line.assignments.push_back({std::string(key), value, "--" + std::string(key)});
  }

  CommandLine& command_line;
  CLI::App app;
  std::string config_path;
  bool check_config = false;
  bool version = false;
};

// "  --flag VALUE      help, wrapped": in 80 columns.
void append_help(std::string& text, const OptionInfo& info) {
  constexpr std::size_t kIndent = 24;
  constexpr std::size_t kWidth = 80;
  std::string line = "  --" + std::string(info.key);
  if (!info.value.empty()) line += " " + std::string(info.value);
  std::string help(info.help);
  if (!info.default_value.empty()) help += " Default: " + std::string(info.default_value) + ".";

  line.resize(std::max(line.size() + 1, kIndent), ' ');
  std::istringstream words(help);
  for (std::string word; words >> word;) {
    if (line.size() + word.size() > kWidth) {
      text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
      line.assign(kIndent, ' ');
    }
    line += word + " ";
  }
  text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
}

// CLI11 says "--socket: 1 required TEXT missing", "daemon was given a disallowed flag override".
std::string in_our_words(const CLI::ArgumentMismatch& error) {
  const std::string what = error.what();
  const std::string name = what.substr(0, what.find_first_of(": "));
  if (what.find("override") != what.npos) return "--" + name + ": takes no value";
  return name + ": needs a value; lingerd --help says which";
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
  for (const OptionInfo& info : kOptionInfo) append_help(text, info);
  for (const OptionInfo& info : kCommandInfo) append_help(text, info);
  return text + kFoot;
}

CommandLine parse_command_line(int argc, const char* const* argv) {
  CommandLine command_line;
  Parser parser(command_line);
  try {
    parser.app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return finish(command_line, Action::kPrint, help_text());
  } catch (const CLI::ArgumentMismatch& error) {
    return finish(command_line, Action::kRefuse, in_our_words(error));
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
