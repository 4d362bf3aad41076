// SPDX-License-Identifier: Apache-2.0
#include "base/flags.h"

#include <getopt.h>

#include <algorithm>
#include <cstddef>
#include <sstream>

namespace lingerd {
namespace {

// getopt_long's table, over the names that it points to.
class LongOptions {
 public:
  explicit LongOptions(std::span<const Flag> flags) {
    for (const Flag& flag : flags) names_.emplace_back(flag.key);
    for (std::size_t i = 0; i < flags.size(); ++i) {
      const int argument = flags[i].value.empty() ? no_argument : required_argument;
      table_.push_back({names_[i].c_str(), argument, nullptr, 0});
    }
    table_.push_back({});
  }
  [[nodiscard]] const option* data() const { return table_.data(); }

 private:
  std::vector<std::string> names_;
  std::vector<option> table_;
};

void note(std::string& problem, const std::string& words) {
  if (problem.empty()) problem = words;
}

// One flag as getopt_long has found it: `result` of its, and the word of argv that it stood in.
// Adds what was given, or a problem.
void take(GivenFlags& out, int result, std::string_view word, std::span<const Flag> flags,
          std::string_view program) {
  const std::string name(word.substr(0, word.find('=')));
  const std::string remedy = "; " + std::string(program) + " --help ";
  if (result == 'h' || word == "-h") return out.given.push_back({"help", {}});
  // By its whole name: getopt_long would take the beginning of one, too.
  const auto flag = std::find_if(flags.begin(), flags.end(), [&](const Flag& one) {
    return name == "--" + std::string(one.key);
  });
  if (flag == flags.end()) {
    return note(out.problem, name + ": there is no such option" + remedy + "lists them");
  }
  if (flag->value.empty()) {
    if (result == '?') return note(out.problem, name + ": takes no value");
    return out.given.push_back({std::string(flag->key), {}});
  }
  const bool attached = word.size() > name.size();
  const std::string value = result == 0 ? optarg : "";
  if (result != 0 || (attached && value.empty()) || (!attached && value.starts_with("--"))) {
    if (result == 0 && !attached) --optind;  // that one is looked at by itself
    return note(out.problem, name + ": needs a value" + remedy + "says which");
  }
  out.given.push_back({std::string(flag->key), value});
}

}  // namespace

std::string describe(const Flag& flag) {
  std::string text(flag.help);
  if (flag.range.most > 0) {
    text.pop_back();
    text += ": " + std::to_string(flag.range.least) + "-" + std::to_string(flag.range.most) + ".";
  }
  if (!flag.default_value.empty()) text += " Default: " + std::string(flag.default_value) + ".";
  return text;
}

void append_help(std::string& text, const Flag& flag) {
  constexpr std::size_t kIndent = 24;
  constexpr std::size_t kWidth = 80;
  std::string line = "  --" + std::string(flag.key);
  if (!flag.value.empty()) line += " " + std::string(flag.value);

  line.resize(std::max(line.size() + 1, kIndent), ' ');
  std::istringstream words(describe(flag));
  for (std::string word; words >> word;) {
    if (line.size() + word.size() > kWidth) {
      text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
      line.assign(kIndent, ' ');
    }
    line += word + " ";
  }
  text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
}

bool GivenFlags::has(std::string_view key) const {
  return std::any_of(given.begin(), given.end(), [&](const Given& one) { return one.key == key; });
}

GivenFlags split_arguments(int argc, const char* const* argv, std::span<const Flag> flags,
                           std::string_view program) {
  GivenFlags out;
  const LongOptions table(flags);
  opterr = 0;
  optind = 0;  // glibc: from the beginning, also when it has been used before
  while (true) {
    const int at = std::max(optind, 1);
    // +: as they come, without moving words behind the flags, so argv isn't changed.
    const int result =
        getopt_long(argc, const_cast<char* const*>(argv), "+:h", table.data(), nullptr);
    if (result != -1) {
      take(out, result, argv[at], flags, program);
    } else if (optind < argc) {
      out.given.push_back({{}, argv[optind++]});
    } else {
      return out;
    }
  }
}

}  // namespace lingerd
