// SPDX-License-Identifier: Apache-2.0
// A secret in a buffer of fixed size, wiped when it goes: it never moves through the heap.
#pragma once

#include <openssl/crypto.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/suite.h"

namespace lingerd::tls {

class Secret {
 public:
  Secret() = default;
  Secret(const Secret&) = default;
  Secret& operator=(const Secret&) = default;
  ~Secret() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

  // All zero. `length`: at most kMaxHashLength.
  Bytes reset(std::size_t length) {
    OPENSSL_cleanse(bytes_.data(), bytes_.size());
    length_ = length;
    return {bytes_.data(), length_};
  }
  ConstBytes get() const { return {bytes_.data(), length_}; }
  std::size_t size() const { return length_; }
  bool empty() const { return length_ == 0; }

 private:
  std::array<unsigned char, kMaxHashLength> bytes_{};
  std::size_t length_ = 0;
};

// One direction of a connection: its application traffic secret, and the sequence number of the
// next record under it.
struct Direction {
  Secret secret;
  std::uint64_t sequence = 0;
};

}  // namespace lingerd::tls
