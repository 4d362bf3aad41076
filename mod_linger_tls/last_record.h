// SPDX-License-Identifier: Apache-2.0
// The last record of one direction, as it went by, so that secret and sequence number can be tried
// on it before anything is built on them.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"

namespace lingerd::tls {

class LastRecord {
 public:
  // Of any version: the first ones name older ones.
  void follow(ConstBytes bytes);

  // It is whole, and opens with the secret and the number before `next`.
  [[nodiscard]] bool is_before(const Direction& next, const Suite& suite) const;
  // The same, and it has padding, which hides how long its content is.
  [[nodiscard]] bool is_padded(const Direction& next, const Suite& suite) const;

 private:
  // Of its header first, then with what follows.
  [[nodiscard]] std::size_t length() const;
  [[nodiscard]] bool is_whole() const;
  // How long its content is; nothing: it doesn't open.
  [[nodiscard]] std::optional<std::size_t> open(const Direction& next, const Suite& suite) const;

  std::vector<unsigned char> record_;
};

}  // namespace lingerd::tls
