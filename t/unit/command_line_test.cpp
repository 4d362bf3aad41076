// SPDX-License-Identifier: Apache-2.0
#include "lingerd/start/command_line.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "base/startup_error.h"
#include "contract/version.h"
#include "lingerd/start/options.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;

namespace {

CommandLine parsed(std::vector<const char*> args) {
  args.insert(args.begin(), "lingerd");
  return parse_command_line(static_cast<int>(args.size()), args.data());
}

void check_refused(const std::vector<const char*>& args, const char* words) {
  const CommandLine command_line = parsed(args);
  CHECK_TEXT(command_line.action == Action::kRefuse, words);
  STRCMP_EQUAL(words, command_line.text.c_str());
}

std::string assigned(const CommandLine& command_line) {
  std::string text;
  for (const Assignment& a : command_line.assignments) text += a.origin + "=" + a.value + " ";
  return text;
}

}  // namespace

TEST_GROUP(CommandLine){};

TEST(CommandLine, without_options_runs) {
  const CommandLine command_line = parsed({});
  CHECK(command_line.action == Action::kRun);
  CHECK(command_line.assignments.empty());
  CHECK(!command_line.config_path);
}

TEST(CommandLine, knows_every_option) {
  for (const OptionInfo& info : kOptionInfo) {
    const std::string name = "--" + std::string(info.key);
    const CommandLine command_line =
        info.value.empty() ? parsed({name.c_str()}) : parsed({name.c_str(), "VALUE"});
    CHECK_TEXT(command_line.action == Action::kRun, name.c_str());
    const std::string expected = name + (info.value.empty() ? "=yes " : "=VALUE ");
    STRCMP_EQUAL(expected.c_str(), assigned(command_line).c_str());
  }
}

TEST(CommandLine, takes_a_value_after_an_equals_sign_too) {
  STRCMP_EQUAL("--socket=/a=b --max-time=5 ",
               assigned(parsed({"--socket=/a=b", "--max-time=5"})).c_str());
}

TEST(CommandLine, an_option_takes_one_value) {
  STRCMP_EQUAL("--allow-user=a --allow-user=b ",
               assigned(parsed({"--allow-user", "a", "--allow-user", "b"})).c_str());
  check_refused({"--allow-user", "a", "b"},
                "b: there is no such option; lingerd --help lists them");
}

TEST(CommandLine, a_negative_number_is_a_value) {
  STRCMP_EQUAL("--max-time=-5 ", assigned(parsed({"--max-time", "-5"})).c_str());
}

TEST(CommandLine, refuses_what_it_doesnt_know) {
  check_refused({"--foo"}, "--foo: there is no such option; lingerd --help lists them");
  check_refused({"--max-times", "5"},
                "--max-times: there is no such option; lingerd --help lists them");
  check_refused({"--max-tim", "5"},
                "--max-tim: there is no such option; lingerd --help lists them");
  check_refused({"--da"}, "--da: there is no such option; lingerd --help lists them");
  check_refused({"--takeove"}, "--takeove: there is no such option; lingerd --help lists them");
  check_refused({"-d"}, "-d: there is no such option; lingerd --help lists them");
  check_refused({"start"}, "start: there is no such option; lingerd --help lists them");
}

TEST(CommandLine, refuses_a_missing_value) {
  check_refused({"--max-time"}, "--max-time: needs a value; lingerd --help says which");
  check_refused({"--socket="}, "--socket: needs a value; lingerd --help says which");
  check_refused({"--socket", "--daemon"}, "--socket: needs a value; lingerd --help says which");
  check_refused({"--config"}, "--config: needs a value; lingerd --help says which");
}

TEST(CommandLine, refuses_a_flags_value) {
  check_refused({"--daemon=no"}, "--daemon: takes no value");
  check_refused({"--daemon=maybe"}, "--daemon: takes no value");
  check_refused({"--version=2"}, "--version: takes no value");
}

TEST(CommandLine, prints_help_and_version) {
  CHECK(parsed({"--help"}).action == Action::kPrint);
  STRCMP_EQUAL(help_text().c_str(), parsed({"--max-time", "5", "-h"}).text.c_str());
  CHECK(parsed({"--foo", "--help"}).action == Action::kPrint);
  CHECK(parsed({"--socket", "--help"}).action == Action::kPrint);
  CHECK(parsed({"--version"}).action == Action::kPrint);
  const std::string version = std::string("lingerd ") + kVersion + "\n";
  STRCMP_EQUAL(version.c_str(), parsed({"--version"}).text.c_str());
}

TEST(CommandLine, checks_the_configuration) {
  CHECK(parsed({"--check-config"}).action == Action::kCheckConfig);
}

TEST(CommandLine, remembers_where_the_file_is_whatever_the_directory_becomes) {
  STRCMP_EQUAL("/etc/x.conf", parsed({"--config", "/etc/x.conf"}).config_path->c_str());
  const std::string path = *parsed({"--config", "x.conf"}).config_path;
  CHECK(path.starts_with('/') && path.ends_with("/x.conf"));
}

TEST_GROUP(ReadOptions) {
  std::string directory;
  std::string path;

  void setup() override {
    std::string pattern = "/tmp/lingerd-unit-XXXXXX";
    directory = mkdtemp(pattern.data());
    path = directory + "/lingerd.conf";
  }
  void teardown() override {
    unlink(path.c_str());
    rmdir(directory.c_str());
  }
  void write_file(const char* text) const {
    std::ofstream(path) << text;
  }

  // What reading throws: its status and words.
  void check_throws(ExitStatus status, const std::string& words,
                    const std::vector<const char*>& more = {}) const {
    std::vector<const char*> args = {"--config", path.c_str()};
    args.insert(args.end(), more.begin(), more.end());
    try {
      (void)read_options(parsed(args));
      FAIL("nothing was thrown");
    } catch (const StartupError& error) {
      STRCMP_EQUAL(words.c_str(), error.what());
      LONGS_EQUAL(static_cast<int>(status), static_cast<int>(error.status()));
    }
  }
};

TEST(ReadOptions, puts_the_command_line_over_the_file) {
  write_file("max-time = 5\nsocket-mode = 0600\n");
  const Options options = read_options(parsed({"--config", path.c_str(), "--max-time", "9"}));
  LONGS_EQUAL(9, options.max_time);
  LONGS_EQUAL(0600, options.socket_mode);
}

TEST(ReadOptions, a_named_file_must_be_there) {
  check_throws(ExitStatus::kNotConfigured,
               "the configuration file " + path +
                   " can't be read: No such file or directory; --config names another");
}

TEST(ReadOptions, a_named_file_must_be_a_file) {
  path = directory;
  check_throws(
      ExitStatus::kNotConfigured,
      "the configuration file " + path + " can't be read: Is a directory; --config names another");
}

TEST(ReadOptions, a_wrong_line_is_a_bad_argument) {
  write_file("max-time\n");
  check_throws(ExitStatus::kBadArgument,
               path + ":1: 'max-time' is not 'key = value', a comment or an empty line");
  write_file("# fine\nmax-time = 0\n");
  check_throws(ExitStatus::kBadArgument,
               path + ":2: max-time: '0' is not a whole number of seconds from 1 to 3600");
}

TEST(ReadOptions, a_wrong_flag_is_a_bad_argument) {
  write_file("");
  check_throws(ExitStatus::kBadArgument,
               "--max-time: '0' is not a whole number of seconds from 1 to 3600",
               {"--max-time", "0"});
}
