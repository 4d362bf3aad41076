// SPDX-License-Identifier: Apache-2.0
// The key schedule (RFC 8446, 7.1) of a handshake that resumes by an external pre-shared key alone,
// and the transcript that it goes by.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/hkdf.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"

namespace lingerd::tls {

class Schedule {
 public:
  explicit Schedule(Hkdf& hkdf) : hkdf_(hkdf) {}

  [[nodiscard]] bool begin(const Secret& key);
  // Of the ClientHello up to its binders, which isn't said yet.
  [[nodiscard]] bool binder(ConstBytes hello, Secret& out);

  void said(ConstBytes message) {
    transcript_.insert(transcript_.end(), message.begin(), message.end());
  }

  // Each with what has been said by then.
  [[nodiscard]] bool enter_handshake(Direction& client, Direction& server);
  [[nodiscard]] bool enter_application(Direction& client, Direction& server);
  // The content of a Finished under a handshake traffic secret.
  [[nodiscard]] bool finished(const Secret& traffic, Secret& out);

 private:
  using Hash = std::array<unsigned char, kMaxHashLength>;

  // Of all that has been said.
  bool hash_now(Hash& hash, ConstBytes& out);
  bool next_stage();
  bool traffic(std::string_view label, ConstBytes hash, Direction& out);

  Hkdf& hkdf_;
  Secret stage_;  // early secret, then handshake secret, then master secret
  std::vector<unsigned char> transcript_;
};

}  // namespace lingerd::tls
