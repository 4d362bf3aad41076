// SPDX-License-Identifier: Apache-2.0
// How a client of TLS 1.3 says goodbye, as far as it can be seen without its keys. Pure.
//
// A parked connection whose client leaves ends here, without a trip to httpd: its last bytes are
// one alert (close_notify) or two (Java sends user_canceled before), then the FIN. Encrypted they
// look like any record of two bytes; but two such records, with the FIN behind them, hold no
// request: the shortest ("GET /") is longer.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace lingerd {

inline constexpr std::size_t kAlertRecord = 24;  // header, two bytes, content type, tag
inline constexpr std::size_t kLongestGoodbye = 2 * kAlertRecord;

// Whether that is all there is: one such record, or two.
[[nodiscard]] constexpr bool is_goodbye(std::span<const std::byte> bytes) {
  constexpr std::array<std::byte, 5> kHeader{std::byte{23}, std::byte{3}, std::byte{3},
                                             std::byte{0}, std::byte{kAlertRecord - 5}};
  if (bytes.empty() || bytes.size() > kLongestGoodbye || bytes.size() % kAlertRecord != 0) {
    return false;
  }
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    const std::size_t in_record = at % kAlertRecord;
    if (in_record < kHeader.size() && bytes[at] != kHeader[in_record]) return false;
  }
  return true;
}

}  // namespace lingerd
