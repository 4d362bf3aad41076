// SPDX-License-Identifier: Apache-2.0
// Authentication schemes that make a connection its user's, against RFC 9110 (11.1), which has each
// request bring its own: after the handshake the requests of such a connection carry no header.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

namespace lingerd {

inline constexpr std::array<std::string_view, 4> kConnectionSchemes{"ntlm", "negotiate", "nego2",
                                                                    "kerberos"};

[[nodiscard]] constexpr bool is_word(std::string_view text, std::string_view lower_case) {
  return std::ranges::equal(text, lower_case, [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b;
  });
}

// `header`: the value of (Proxy-)Authorization, or of WWW- or Proxy-Authenticate, which may list
// several schemes. Where a quoted realm looks like one of them the answer is yes, to be safe.
[[nodiscard]] constexpr bool binds_connection(std::string_view header) {
  constexpr std::string_view kSpace = " \t";
  while (true) {
    const std::size_t begin = std::min(header.find_first_not_of(kSpace), header.size());
    header.remove_prefix(begin);
    const std::string_view word = header.substr(0, header.find_first_of(" \t,"));
    const bool binds = std::ranges::any_of(
        kConnectionSchemes, [&](std::string_view scheme) { return is_word(word, scheme); });
    if (binds) return true;
    const std::size_t comma = header.find(',');
    if (comma == std::string_view::npos) return false;
    header.remove_prefix(comma + 1);
  }
}

}  // namespace lingerd
