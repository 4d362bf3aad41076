// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/request/read_timeout.h"

#include <algorithm>
#include <charconv>
#include <cstddef>

namespace lingerd {
namespace {

constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// Takes `lower_case` from the front of `text`, in any case.
bool skip(std::string_view& text, std::string_view lower_case) {
  const bool begins = text.size() >= lower_case.size() &&
                      std::ranges::equal(text.substr(0, lower_case.size()), lower_case, {}, lower);
  if (begins) text.remove_prefix(lower_case.size());
  return begins;
}

std::uint32_t number(std::string_view& text) {
  std::uint32_t value = 0;
  const char* const begin = text.data();
  const auto [end, error] = std::from_chars(begin, begin + text.size(), value);
  text.remove_prefix(static_cast<std::size_t>(end - begin));
  return value;
}

struct Stage {
  std::uint32_t least = 0;
  std::uint32_t most = 0;
  std::uint32_t rate = 0;
  // The longest that it can last, 0: as long as the rate is kept up.
  [[nodiscard]] std::uint32_t longest() const { return rate != 0 ? most : least; }
};

// "20", "20-40,MinRate=500"
Stage parse_stage(std::string_view text) {
  Stage stage;
  stage.least = number(text);
  if (skip(text, "-")) stage.most = number(text);
  if (skip(text, ",minrate=")) stage.rate = number(text);
  return stage.least == 0 ? Stage{} : stage;
}

void lower_to(std::uint32_t& limit, std::uint32_t other) {
  if (other != 0) limit = limit == 0 ? other : std::min(limit, other);
}

}  // namespace

void ReadTimeout::tighten(const ReadTimeout& other) {
  lower_to(head, other.head);
  lower_to(body_grace, other.body_grace);
  body_rate = std::max(body_rate, other.body_rate);
  lower_to(body, other.body);
}

ReadTimeout parse_read_timeout(std::string_view arguments) {
  ReadTimeout timeout;
  while (!arguments.empty()) {
    const std::size_t end = std::min(arguments.find_first_of(" \t\""), arguments.size());
    std::string_view word = arguments.substr(0, end);
    arguments.remove_prefix(std::min(end + 1, arguments.size()));
    if (skip(word, "header=")) {
      timeout.head = parse_stage(word).longest();
    } else if (skip(word, "body=")) {
      const Stage stage = parse_stage(word);
      timeout.body_grace = stage.least;
      timeout.body_rate = stage.rate;
      timeout.body = stage.longest();
    }
  }
  return timeout;
}

}  // namespace lingerd
