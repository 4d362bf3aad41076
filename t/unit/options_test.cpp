// SPDX-License-Identifier: Apache-2.0
#include "lingerd/start/options.h"

#include "lingerd/core/settings.h"

#include <cstdint>
#include <string>
#include <vector>

#include "base/unix_limits.h"
#include "contract/record.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;

namespace {

Assignment flag(const std::string& key, const std::string& value) {
  return {key, value, "--" + key};
}

OptionsResult given(const std::vector<Assignment>& command_line) {
  return combine({}, command_line);
}

void check_options(const OptionsResult& result, const Options& expected) {
  STRCMP_EQUAL("", result.problem.c_str());
  CHECK(result.options == expected);
}

void check_refused(const std::string& key, const std::string& value, const std::string& problem) {
  STRCMP_EQUAL(problem.c_str(), given({flag(key, value)}).problem.c_str());
  // The file's key passes through the same check, and says where.
  const ConfigText config = parse_config("\n" + key + " = " + value + "\n", "/etc/l.conf");
  STRCMP_EQUAL("", config.problem.c_str());
  const std::string in_file = "/etc/l.conf:2: " + problem.substr(2);
  STRCMP_EQUAL(in_file.c_str(), combine(config.assignments, {}).problem.c_str());
}

}  // namespace

TEST_GROUP(Options){};

TEST(Options, have_the_contracts_defaults) {
  const Options options;
  STRCMP_EQUAL("/run/lingerd/lingerd.sock", options.socket.c_str());
  LONGS_EQUAL(0660, options.socket_mode);
  STRCMP_EQUAL("", options.socket_group.c_str());
  STRCMP_EQUAL("", options.user.c_str());
  CHECK(!options.max_connections.has_value());
  LONGS_EQUAL(60, options.max_time);
  CHECK(options.allow_users.empty());
  CHECK(!options.daemon);
  STRCMP_EQUAL("", options.pidfile.c_str());
  check_options(given({}), options);
}

TEST(Options, state_the_defaults_that_they_have) {
  for (const OptionInfo& info : kOptionInfo) {
    if (info.default_value.empty()) continue;
    check_options(given({flag(std::string(info.key), std::string(info.default_value))}), Options{});
  }
}

TEST(Options, the_ceiling_of_max_time_is_that_of_a_records_durations) {
  LONGS_EQUAL(kMaxDurationMs, kMaxMaxTime * 1000);
}

TEST(Options, each_takes_its_values) {
  Options expected;
  expected.socket = "/tmp/l.sock";
  expected.socket_mode = 0777;
  expected.socket_group = "www-data";
  expected.user = "lingerd";
  expected.max_connections = 1000;
  expected.max_time = 3600;
  expected.allow_users = {"www-data", "33"};
  expected.daemon = true;
  expected.pidfile = "/run/lingerd.pid";
  const std::vector<Assignment> all = {flag("socket", "/tmp/l.sock"),
                                       flag("socket-mode", "0777"),
                                       flag("socket-group", "www-data"),
                                       flag("user", "lingerd"),
                                       flag("max-connections", "1000"),
                                       flag("max-time", "3600"),
                                       flag("allow-user", "www-data"),
                                       flag("allow-user", "33"),
                                       flag("daemon", "yes"),
                                       flag("pidfile", "/run/lingerd.pid")};
  check_options(given(all), expected);
  check_options(combine(all, {}), expected);
}

TEST(Options, socket_is_an_absolute_path) {
  for (const char* value : {"lingerd.sock", "./l", "/run/lingerd/", "/", "@abstract"}) {
    check_refused("socket", value,
                  "--socket: '" + std::string(value) + "' is not an absolute path of a socket");
  }
  check_refused("socket", "", "--socket: '' is not an absolute path of a socket");
}

TEST(Options, socket_fits_into_sun_path) {
  const std::string longest = "/" + std::string(106, 'x');
  STRCMP_EQUAL("", given({flag("socket", longest)}).problem.c_str());
  check_refused(
      "socket", longest + "x",
      "--socket: '" + longest + "x' has 108 bytes; the path of a Unix socket has at most 107");
}

TEST(Options, socket_mode_is_octal) {
  for (const char* value :
       {"8", "0778", "01000", "1777", "-1", "0x1ff", "rw", "660 ", "", "+660"}) {
    const std::string shown = std::string(value) == "660 " ? "660 x" : value;
    check_refused("socket-mode", shown,
                  "--socket-mode: '" + shown + "' is not an octal file mode from 0000 to 0777");
  }
  LONGS_EQUAL(0, given({flag("socket-mode", "0")}).options.socket_mode);
  LONGS_EQUAL(0600, given({flag("socket-mode", "600")}).options.socket_mode);
  LONGS_EQUAL(0777, given({flag("socket-mode", "0000777")}).options.socket_mode);
}

TEST(Options, max_time_is_whole_seconds_within_an_hour) {
  for (const char* value : {"0", "3601", "-5", "5s", "1.5", "", "4294967297",
                            "99999999999999999999", "0x10", "+5", "sixty"}) {
    check_refused(
        "max-time", value,
        "--max-time: '" + std::string(value) + "' is not a whole number of seconds from 1 to 3600");
  }
  LONGS_EQUAL(1, given({flag("max-time", "1")}).options.max_time);
  LONGS_EQUAL(3600, given({flag("max-time", "3600")}).options.max_time);
}

TEST(Options, max_connections_is_positive) {
  for (const char* value : {"0", "-1", "", "many", "1e3", "2147483648"}) {
    check_refused(
        "max-connections", value,
        "--max-connections: '" + std::string(value) + "' is not a number of sockets, 1 or more");
  }
  LONGS_EQUAL(1, *given({flag("max-connections", "1")}).options.max_connections);
}

TEST(Options, names_are_single_names) {
  for (const char* value : {"", "a b", "a,b", "a:b"}) {
    const std::string shown = "'" + std::string(value) + "'";
    check_refused("user", value, "--user: " + shown + " is not the name or number of a user");
    check_refused("socket-group", value,
                  "--socket-group: " + shown + " is not the name or number of a group");
    check_refused("allow-user", value,
                  "--allow-user: " + shown + " is not the name or number of one user");
  }
}

TEST(Options, daemon_is_yes_or_no) {
  for (const char* value : {"", "true", "1", "Yes"}) {
    check_refused("daemon", value, "--daemon: '" + std::string(value) + "' is not yes or no");
  }
  CHECK(!given({flag("daemon", "no")}).options.daemon);
}

TEST(Options, pidfile_is_an_absolute_path) {
  check_refused("pidfile", "l.pid", "--pidfile: 'l.pid' is not an absolute path of a file");
  check_refused("pidfile", "/run/", "--pidfile: '/run/' is not an absolute path of a file");
}

TEST(Options, that_dont_exist_are_named) {
  for (const char* key : {"max_time", "Max-Time", "config", "check-config", "version", "help"}) {
    check_refused(key, "1",
                  "--" + std::string(key) + ": there is no such option; lingerd --help lists them");
  }
}

TEST(Options, given_twice_are_refused) {
  STRCMP_EQUAL(
      "--max-time: given twice, the second time as '4'",
      given({flag("max-time", "5"), flag("user", "x"), flag("max-time", "4")}).problem.c_str());
  const ConfigText config = parse_config("max-time=5\nmax-time=5\n", "/c");
  STRCMP_EQUAL("/c:2: max-time: given twice, the second time as '5'",
               combine(config.assignments, {}).problem.c_str());
}

TEST(Options, the_command_line_hides_the_file) {
  const ConfigText config =
      parse_config("max-time = 5\nallow-user = a\nallow-user = b\nuser = u\n", "/c");
  Options expected;
  expected.max_time = 7;
  expected.allow_users = {"c"};
  expected.user = "u";
  check_options(
      combine(config.assignments, std::vector{flag("max-time", "7"), flag("allow-user", "c")}),
      expected);
}

TEST(Options, a_hidden_line_must_be_right_all_the_same) {
  const ConfigText config = parse_config("max-time = soon\n", "/c");
  STRCMP_EQUAL("/c:1: max-time: 'soon' is not a whole number of seconds from 1 to 3600",
               combine(config.assignments, std::vector{flag("max-time", "7")}).problem.c_str());
}

TEST_GROUP(ConfigFile){static void check_line(const char* text, const char* key, const char* value){
    const ConfigText config = parse_config(text, "/c");
STRCMP_EQUAL_TEXT("", config.problem.c_str(), text);
LONGS_EQUAL_TEXT(1, config.assignments.size(), text);
STRCMP_EQUAL(key, config.assignments[0].key.c_str());
STRCMP_EQUAL(value, config.assignments[0].value.c_str());
}
}
;

TEST(ConfigFile, is_lines_of_key_and_value) {
  check_line("a = b", "a", "b");
  check_line("a=b\n", "a", "b");
  check_line("  a\t=  b c \r\n", "a", "b c");
  check_line("a = b = c", "a", "b = c");
  check_line("a =", "a", "");
  check_line("# x = y\n;x = y\n \n\n   # z\na = b # c", "a", "b # c");
}

TEST(ConfigFile, may_be_empty) {
  for (const char* text : {"", "\n", "\n\n", "# nothing"}) {
    CHECK(parse_config(text, "/c").assignments.empty());
    STRCMP_EQUAL("", parse_config(text, "/c").problem.c_str());
  }
}

TEST(ConfigFile, names_the_line_that_is_none) {
  STRCMP_EQUAL("/c:3: 'max-time 5' is not 'key = value', a comment or an empty line",
               parse_config("# x\n\n max-time 5\n", "/c").problem.c_str());
  STRCMP_EQUAL("/c:1: '= 5' is not 'key = value', a comment or an empty line",
               parse_config("= 5", "/c").problem.c_str());
  STRCMP_EQUAL("/c:1: '[lingerd]' is not 'key = value', a comment or an empty line",
               parse_config("[lingerd]", "/c").problem.c_str());
}

TEST(ConfigFile, remembers_where_each_line_was) {
  const ConfigText config = parse_config("\n# x\na = 1\n\nb = 2", "/etc/lingerd/lingerd.conf");
  STRCMP_EQUAL("/etc/lingerd/lingerd.conf:3: a", config.assignments[0].origin.c_str());
  STRCMP_EQUAL("/etc/lingerd/lingerd.conf:5: b", config.assignments[1].origin.c_str());
}

TEST_GROUP(DescriptorShares){};

TEST(DescriptorShares, keep_a_reserve_that_grows_with_the_limit) {
  LONGS_EQUAL(640 - 32 - 32 - 2 * 253, most_connections(640));
  LONGS_EQUAL(1024 - 32 - 32 - 2 * 253, most_connections(1024));
  LONGS_EQUAL(19'375 - 64 - 32 - 2 * 4 * 253, most_connections(20'000));
  LONGS_EQUAL(65'536 - 2'048 - 64 - 32 - 2 * 16 * 253, most_connections(65'536));
  LONGS_EQUAL(524'288 - 8'192 - 64 - 32 - 2 * 16 * 253, most_connections(524'288));
}

TEST(DescriptorShares, stop_at_a_million_sockets) {
  for (const std::uint64_t nofile : {1'073'741'816ULL, 1ULL << 32, ~0ULL}) {
    LONGS_EQUAL(1'048'576, most_connections(nofile));
    LONGS_EQUAL(65'536, share_descriptors(nofile, {}).max_peers);
  }
}

TEST(DescriptorShares, give_peers_what_is_left) {
  LONGS_EQUAL(17'255, share_descriptors(20'000, {}).max_connections);
  LONGS_EQUAL(4, share_descriptors(20'000, {}).batch);
  LONGS_EQUAL(625 - 16, share_descriptors(20'000, {}).max_peers);
  LONGS_EQUAL(10'000, share_descriptors(20'000, 10'000).max_connections);
  LONGS_EQUAL(10'000 - 16 - 64 - 2'056, share_descriptors(20'000, 10'000).max_peers);
}

TEST(DescriptorShares, fit_under_every_limit_that_lingerd_starts_with) {
  for (std::uint64_t nofile = kLeastDescriptors; nofile < 300'000; nofile += 13) {
    const DescriptorShares shares = share_descriptors(nofile, {});
    CHECK(shares.max_connections >= 1);
    CHECK(shares.max_peers >= 8);
    // All that is held, all that waits to be closed, and all that a batch may bring.
    CHECK(shares.max_connections + shares.max_peers + 16 + shares.unwanted +
              shares.batch * lingerd::kMostInMessage <=
          nofile);
    CHECK(shares.unwanted >= shares.batch * lingerd::kMostInMessage);
  }
}

TEST(DescriptorShares, of_tiny_limits_are_never_zero) {
  for (std::uint64_t nofile = 0; nofile < kLeastDescriptors; ++nofile) {
    CHECK(share_descriptors(nofile, {}).max_connections >= 1);
    CHECK(share_descriptors(nofile, {}).max_peers >= 8);
  }
}

TEST_GROUP(ChangedUntilRestart){};

TEST(ChangedUntilRestart, names_what_a_running_lingerd_cant_change) {
  const Options before;
  Options after;
  after.socket = "/x";
  after.socket_mode = 0600;
  after.socket_group = "g";
  after.user = "u";
  after.daemon = true;
  after.pidfile = "/p";
  std::string keys;
  for (const std::string_view key : changed_until_restart(before, after)) {
    keys += std::string(key) + " ";
  }
  STRCMP_EQUAL("socket socket-mode socket-group user daemon pidfile ", keys.c_str());
}

TEST(ChangedUntilRestart, is_silent_about_what_it_can) {
  const Options before;
  Options after;
  after.max_connections = 5;
  after.max_time = 5;
  after.allow_users = {"x"};
  CHECK(changed_until_restart(before, after).empty());
}

// What a successor gets, in case its own configuration doesn't do.
TEST(Options, as_a_file_say_the_same) {
  Options options;
  options.socket = "/tmp/other.sock";
  options.socket_mode = 0600;
  options.socket_group = "33";
  options.user = "lingerd";
  options.max_connections = 77;
  options.max_time = 9;
  options.offload_memory = 12345;
  options.request_memory = 54321;
  options.min_rate = 100;
  options.allow_users = {"1", "www-data"};
  options.daemon = true;
  options.pidfile = "/run/l.pid";
  for (const Options& each : {Options{}, options}) {
    const std::string text = as_config(each);
    check_options(combine(parse_config(text, "x").assignments, {}), each);
  }
  const std::string text = as_config(options);
  for (const OptionInfo& info : kOptionInfo) {
    CHECK_TEXT(("\n" + text).find("\n" + std::string(info.key) + " = ") != std::string::npos,
               std::string(info.key).c_str());
  }
}
