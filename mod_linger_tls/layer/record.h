// SPDX-License-Identifier: Apache-2.0
// What TLS 1.3 says of a record, without a key (RFC 8446, 5).
#pragma once

#include <cstddef>
#include <cstdint>

namespace lingerd::tls {

enum class ContentType : std::uint8_t {
  kChangeCipherSpec = 20,
  kAlert = 21,
  kHandshake = 22,
  kApplicationData = 23,
};

// Those that this side sends, or tells apart.
enum class Alert : std::uint8_t {
  kCloseNotify = 0,
  kUnexpectedMessage = 10,
  kBadRecordMac = 20,
  kRecordOverflow = 22,
  kDecodeError = 50,
  kInternalError = 80,
  kUserCanceled = 90,
};

inline constexpr std::size_t kHeaderLength = 5;
inline constexpr std::size_t kMaxContent = 1 << 14;
// What follows the header of an encrypted record: content, its type, padding, the cipher's tag.
inline constexpr std::size_t kMaxCiphertext = kMaxContent + 256;
inline constexpr std::size_t kMaxRecord = kHeaderLength + kMaxCiphertext;
// What our own records have beside their content: header, type, tag. No padding.
inline constexpr std::size_t kOverhead = kHeaderLength + 1 + 16;
inline constexpr std::size_t kAlertLength = 2;
inline constexpr std::size_t kKeyUpdateLength = 5;

}  // namespace lingerd::tls
