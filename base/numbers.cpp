// SPDX-License-Identifier: Apache-2.0
#include "base/numbers.h"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

namespace lingerd {
namespace {

// One decimal under ten, none above: three digits at most say enough.
std::string rounded(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), value < 9.95 ? "%.1f" : "%.0f", value);
  return text.data();
}

std::string pair_of(std::uint64_t whole, const char* unit, std::uint64_t rest,
                    const char* smaller) {
  std::string out = std::to_string(whole) + " " + unit;
  if (rest != 0) out += " " + std::to_string(rest) + " " + smaller;
  return out;
}

}  // namespace

std::string grouped(std::uint64_t value) {
  std::string out = std::to_string(value);
  for (std::size_t at = out.size(); at > 3;) out.insert(at -= 3, ",");
  return out;
}

std::string decimal(std::uint64_t value, int places) {
  std::string digits = std::to_string(value);
  const auto n = static_cast<std::size_t>(places);
  if (digits.size() <= n) digits.insert(0, n + 1 - digits.size(), '0');
  return digits.insert(digits.size() - n, ".");
}

std::string shortest(double value) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.1f", value);
  std::string out = text.data();
  if (out.ends_with(".0")) out.resize(out.size() - 2);
  return out;
}

std::uint64_t whole_number(double value) {
  if (!(value > 0)) return 0;
  constexpr double kTooLarge = 18'446'744'073'709'551'616.0;  // 2^64
  const double rounded_up = std::round(value);
  return rounded_up < kTooLarge ? static_cast<std::uint64_t>(rounded_up) : UINT64_MAX;
}

std::string rate_text(double per_second) {
  if (per_second < 100) return shortest(per_second);
  return grouped(whole_number(per_second));
}

std::string bytes_text(std::uint64_t bytes) {
  if (bytes < 1000) return std::to_string(bytes) + " B";
  static constexpr std::array<const char*, 6> kUnits{"kB", "MB", "GB", "TB", "PB", "EB"};
  auto value = static_cast<double>(bytes) / 1000;
  std::size_t unit = 0;
  for (; value >= 999.5 && unit + 1 < kUnits.size(); ++unit) value /= 1000;
  return rounded(value) + " " + kUnits[unit];
}

std::string duration_text(std::uint64_t ms) {
  const std::uint64_t s = ms / 1000;
  if (ms == 0) return "0 s";
  if (ms < 1000) return std::to_string(ms) + " ms";
  if (s < 60) return rounded(static_cast<double>(ms) / 1000) + " s";
  if (s < 3600) return pair_of(s / 60, "min", s % 60, "s");
  if (s < 86400) return pair_of(s / 3600, "h", s / 60 % 60, "min");
  const std::uint64_t days = s / 86400;
  return days < 100 ? pair_of(days, "d", s / 3600 % 24, "h") : grouped(days) + " d";
}

std::string percent_text(std::uint64_t part, std::uint64_t whole) {
  if (whole == 0 || part == 0) return "0%";
  const double share = 100.0 * static_cast<double>(part) / static_cast<double>(whole);
  if (share < 0.1) return "<0.1%";
  return share > 99.9 && part < whole ? ">99.9%" : rounded(share) + "%";
}

}  // namespace lingerd
