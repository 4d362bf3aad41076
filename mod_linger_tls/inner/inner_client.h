// SPDX-License-Identifier: Apache-2.0
// The smallest TLS 1.3 client (RFC 8446): it resumes by a pre-shared key without a key exchange
// (psk_ke), in memory, with a server in the same process, and accepts nothing else: no certificate,
// no second ClientHello, no cipher but the one. What it is for is a server that then holds a
// connection which has been set up before; secrecy is the outer connection's.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "mod_linger_tls/inner/client_hello.h"
#include "mod_linger_tls/inner/schedule.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/handshake_messages.h"
#include "mod_linger_tls/layer/hkdf.h"
#include "mod_linger_tls/layer/protection.h"
#include "mod_linger_tls/layer/suite.h"

namespace lingerd::tls {

class InnerClient {
 public:
  explicit InnerClient(Hkdf& hkdf) : hkdf_(hkdf), schedule_(hkdf) {}

  // Writes the ClientHello. False: OpenSSL can't, or a name is too long.
  [[nodiscard]] bool start(const InnerHello& hello, std::vector<unsigned char>& to_server);

  // A record of the server's, until done(). False: something else than it may say; failure() says
  // what. The client's Finished comes out at the end.
  [[nodiscard]] bool handshake_record(ConstBytes record, std::vector<unsigned char>& to_server);
  bool done() const { return stage_ == Stage::kDone; }
  const char* failure() const { return failure_; }

  // When done: the two directions of the inner connection.
  RecordSealer& to_server() { return to_server_; }
  RecordOpener& from_server() { return from_server_; }

 private:
  // What the answer to so little can be; a certificate is more.
  static constexpr std::size_t kMaxMessage = 1'024;
  static constexpr std::size_t kMaxFinished = 4 + kMaxHashLength;
  enum class Stage { kServerHello, kEncryptedExtensions, kFinished, kDone };

  bool fail(const char* why);
  bool take_encrypted(ConstBytes record);
  bool take_messages(std::vector<unsigned char>& to_server);
  bool take_message(const HandshakeMessages::Message& message,
                    std::vector<unsigned char>& to_server);
  bool take_server_hello(ConstBytes body);
  bool take_encrypted_extensions(ConstBytes body);
  bool take_finished(ConstBytes body);
  bool finish(std::vector<unsigned char>& to_server);

  Hkdf& hkdf_;
  Schedule schedule_;
  Stage stage_ = Stage::kServerHello;
  const char* failure_ = "";
  bool has_server_name_ = false;
  bool compatible_ = false;  // the one ChangeCipherSpec of middlebox compatibility has come
  std::string alpn_;
  HandshakeMessages messages_{kMaxMessage};
  RecordSealer to_server_;
  RecordOpener from_server_;
};
}  // namespace lingerd::tls
