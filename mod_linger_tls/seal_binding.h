// SPDX-License-Identifier: Apache-2.0
// What a sealed state is bound to: its stay, and the connection that was parked. Opened with
// anything else it is nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mod_linger/tls/parking.h"
#include "mod_linger_tls/layer/bytes.h"

namespace lingerd::tls {

class SealBinding {
 public:
  SealBinding(std::uint64_t stay, const TlsBinding& binding)
      : bytes_(binding.connection.begin(), binding.connection.end()) {
    for (std::size_t i = 0; i < sizeof stay; ++i) {
      bytes_.push_back(static_cast<unsigned char>(stay >> (8 * i)));
    }
  }
  [[nodiscard]] ConstBytes bytes() const { return bytes_; }

 private:
  std::vector<unsigned char> bytes_;
};

}  // namespace lingerd::tls
