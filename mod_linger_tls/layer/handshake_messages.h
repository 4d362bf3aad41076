// SPDX-License-Identifier: Apache-2.0
// Handshake messages out of records, of which one may hold several, and several one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mod_linger_tls/layer/bytes.h"

namespace lingerd::tls {

enum class HandshakeType : std::uint8_t {
  kClientHello = 1,
  kServerHello = 2,
  kNewSessionTicket = 4,
  kEncryptedExtensions = 8,
  kFinished = 20,
  kKeyUpdate = 24,
};

class HandshakeMessages {
 public:
  struct Message {
    HandshakeType type{};
    ConstBytes whole;  // with its header. Valid until the next call
    ConstBytes body;
    bool ends_record = false;  // nothing comes behind it
  };

  // `most`: of a whole message.
  explicit HandshakeMessages(std::size_t most) : most_(most) {}

  void add(ConstBytes content);
  // False: it isn't there yet, or too_long().
  [[nodiscard]] bool next(Message& message);
  // Known from its header, before it has come.
  bool too_long() const;
  // None has begun.
  bool empty() const { return at_ == held_.size(); }

 private:
  std::size_t length() const;

  std::size_t most_;
  std::size_t at_ = 0;
  std::vector<unsigned char> held_;
};

}  // namespace lingerd::tls
