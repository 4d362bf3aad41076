// SPDX-License-Identifier: Apache-2.0
// --help, the shipped lingerd.conf and docs/install.md say what the code does.
#include <cstddef>
#include <fstream>
#include <iterator>
#include <optional>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "base/flags.h"
#include "lingerd/start/command_line.h"
#include "lingerd/start/options.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;

namespace {

std::optional<std::string> read_text(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string without_breaks(const std::string& text) {
  return std::regex_replace(text, std::regex("\\s+"), " ");
}

bool mentions(const std::string& text, const std::string& words) {
  return text.find(words) != text.npos;
}

// The commented-out keys of the shipped file as one uncommented file: "#key = value", no space.
std::string uncommented(const std::string& conf) {
  std::istringstream lines(conf);
  std::string out;
  for (std::string line; std::getline(lines, line);) {
    static const std::regex kKey("#[a-z-]+ = .+");
    out += std::regex_match(line, kKey) ? line.substr(1) : line;
    out += "\n";
  }
  return out;
}

}  // namespace

TEST_GROUP(Documents){};

TEST(Documents, help_names_every_option_its_value_default_and_text) {
  const std::string help = without_breaks(help_text());
  for (const OptionInfo& info : kOptionInfo) {
    std::string entry = "--" + std::string(info.key);
    if (!info.value.empty()) entry += " " + std::string(info.value);
    entry += " " + describe(info);
    CHECK_TEXT(mentions(help, entry), entry.c_str());
  }
  for (const char* flag : {"--config FILE", "--check-config", "--version", "--help"}) {
    CHECK_TEXT(mentions(help, flag), flag);
  }
  CHECK(mentions(help, kDefaultConfigPath));
}

TEST(Documents, help_fits_a_terminal) {
  std::istringstream lines(help_text());
  for (std::string line; std::getline(lines, line);) {
    CHECK_TEXT(line.size() <= 80, line.c_str());
    CHECK_TEXT(!line.ends_with(' '), line.c_str());
  }
}

TEST(Documents, the_shipped_file_changes_nothing) {
  const auto conf = read_text("conf/lingerd.conf");
  CHECK_TEXT(conf.has_value(), "conf/lingerd.conf: run this test in the source directory");
  const ConfigText config = parse_config(*conf, "conf/lingerd.conf");
  STRCMP_EQUAL("", config.problem.c_str());
  CHECK(config.assignments.empty());
}

TEST(Documents, the_shipped_file_shows_every_key_with_its_default) {
  const auto conf = read_text("conf/lingerd.conf");
  CHECK(conf.has_value());
  const ConfigText config = parse_config(uncommented(*conf), "conf/lingerd.conf");
  STRCMP_EQUAL("", config.problem.c_str());
  STRCMP_EQUAL("", combine(config.assignments, {}).problem.c_str());
  LONGS_EQUAL(kOptionInfo.size(), config.assignments.size());
  for (std::size_t i = 0; i < kOptionInfo.size(); ++i) {
    STRCMP_EQUAL(std::string(kOptionInfo[i].key).c_str(), config.assignments[i].key.c_str());
    if (kOptionInfo[i].default_value.empty()) continue;
    STRCMP_EQUAL(std::string(kOptionInfo[i].default_value).c_str(),
                 config.assignments[i].value.c_str());
  }
}

// A row of its table: | `--key VALUE` | default | … |
TEST(Documents, the_installation_guide_has_every_option_with_its_default) {
  const auto guide = read_text("docs/install.md");
  CHECK_TEXT(guide.has_value(), "docs/install.md: run this test in the source directory");
  for (const OptionInfo& info : kOptionInfo) {
    std::string cell = "| `--" + std::string(info.key);
    if (!info.value.empty()) cell += " " + std::string(info.value);
    cell += "` |";
    const auto found = guide->find(cell);
    CHECK_TEXT(found != guide->npos, cell.c_str());
    const std::string row = guide->substr(found, guide->find('\n', found) - found);
    const std::string stated = "`" + std::string(info.default_value) + "`";
    CHECK_TEXT(info.default_value.empty() || info.value.empty() || mentions(row, stated),
               row.c_str());
  }
}
