// SPDX-License-Identifier: Apache-2.0
// What OpenSSL tells of a connection that mod_ssl has set up, by its public callbacks: the traffic
// secrets (as lines of a key log), and each record and message (msg_callback), so that the sequence
// numbers are known. Knows no SSL object and no httpd.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/secret.h"

namespace lingerd::tls {

class Tap {
 public:
  void note_log_line(std::string_view line);
  // As SSL_set_msg_callback's. `suite`: on the wire, 0 before it is known.
  void note_message(bool written, int content_type, ConstBytes bytes, std::uint16_t suite);

  // Both sides are past their Finished.
  [[nodiscard]] bool is_open() const { return client_.open && server_.open; }
  // Something that isn't followed, in words; null: nothing.
  [[nodiscard]] const char* strange() const { return strange_; }
  // An alert of either side.
  [[nodiscard]] bool has_alert() const { return alert_; }
  // The client would let itself be asked for a certificate later on.
  [[nodiscard]] bool offers_late_authentication() const { return late_authentication_; }

  [[nodiscard]] const Direction& client() const { return client_.direction; }
  [[nodiscard]] const Direction& server() const { return server_.direction; }
  void wipe();

 private:
  struct Side {
    Direction direction;
    bool open = false;  // its Finished is over
  };
  void note_handshake(Side& side, ConstBytes message, std::uint16_t suite);
  void advance(Side& side, std::uint16_t suite);

  Side client_;
  Side server_;
  bool alert_ = false;
  bool late_authentication_ = false;
  const char* strange_ = nullptr;
};

// Whether a ClientHello (with its message header) has the extension post_handshake_auth; true where
// it can't be read.
[[nodiscard]] bool offers_post_handshake_auth(ConstBytes client_hello);

}  // namespace lingerd::tls
