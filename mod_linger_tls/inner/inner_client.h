// SPDX-License-Identifier: Apache-2.0
// The smallest TLS 1.3 client (RFC 8446): it resumes by a pre-shared key without a key exchange
// (psk_ke), in memory, with a server in the same process, and accepts nothing else: no certificate,
// no second ClientHello, no cipher but the one. What it is for is a server that then holds a
// connection which has been set up before; secrecy is the outer connection's.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/hkdf.h"
#include "mod_linger_tls/layer/protection.h"
#include "mod_linger_tls/layer/record.h"
#include "mod_linger_tls/layer/record_parser.h"
#include "mod_linger_tls/layer/secret.h"

namespace lingerd::tls {

struct InnerHello {
  ConstBytes identity;           // of the key
  const Secret* key = nullptr;   // as long as the suite's hash
  std::string_view server_name;  // empty: none
  std::string_view alpn;         // empty: none
};

class InnerClient {
 public:
  explicit InnerClient(Hkdf& hkdf) : hkdf_(hkdf) {}

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
  enum class Stage { kServerHello, kEncryptedExtensions, kFinished, kDone };
  // details follow
  Stage stage_ = Stage::kServerHello;
  const char* failure_ = "";
  Hkdf& hkdf_;
  RecordSealer to_server_;
  RecordOpener from_server_;
};

}  // namespace lingerd::tls
