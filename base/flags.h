// SPDX-License-Identifier: Apache-2.0
// Flags of a command line: a table says which there are, for splitting argv and for --help. What a
// value must be is decided elsewhere.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lingerd {

struct Range {
  std::uint32_t least = 0;
  std::uint32_t most = 0;  // 0: no range
};

struct Flag {
  std::string_view key;            // --key VALUE
  std::string_view value;          // what VALUE is; empty: there is none
  std::string_view default_value;  // as it would be written; empty: none
  std::string_view help;           // a sentence or several, without range and default
  Range range{};                   // both ends allowed
};

// What there is to say about a flag: "HELP: LEAST-MOST. Default: DEFAULT."
[[nodiscard]] std::string describe(const Flag& flag);

// "  --key VALUE           What there is to say, wrapped": in 80 columns.
void append_help(std::string& text, const Flag& flag);

// One of them as it was given, or a word that is no flag and no flag's value.
struct Given {
  std::string key;    // empty: a word
  std::string value;  // the flag's, or the word
};

// argv, split. Of mistakes it has the first, and what is behind that all the same: a --help
// there is heard.
struct GivenFlags {
  std::vector<Given> given;
  std::string problem;  // empty: none

  [[nodiscard]] bool has(std::string_view key) const;
};
// `program` is named in a problem's remedy. -h is --help. Flags are not to be abbreviated.
[[nodiscard]] GivenFlags split_arguments(int argc, const char* const* argv,
                                         std::span<const Flag> flags, std::string_view program);

}  // namespace lingerd
