// SPDX-License-Identifier: Apache-2.0
// Values as the bytes that travel.
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

template <typename T>
std::vector<std::byte> bytes_of(const T& value) {
  std::vector<std::byte> bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}
