// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/inner/inner_client.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "mod_linger_tls/inner/client_hello.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/handshake_messages.h"
#include "mod_linger_tls/layer/hkdf.h"
#include "mod_linger_tls/layer/protection.h"
#include "mod_linger_tls/layer/record.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"
#include "mod_linger_tls/layer/wire.h"

namespace lingerd::tls {
namespace {

// In place of a ServerHello's random: it is a HelloRetryRequest (RFC 8446, 4.1.3).
constexpr std::array<unsigned char, kRandomLength> kRetry{
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
    0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C};

}  // namespace

bool InnerClient::fail(const char* why) {
  failure_ = why;
  return false;
}

bool InnerClient::start(const InnerHello& hello, std::vector<unsigned char>& to_server) {
  std::array<unsigned char, kMaxClientHello> message;
  const std::size_t length = write_client_hello(hkdf_.suite(), hello, message);
  if (length == 0) return fail("no ClientHello could be written");
  const std::size_t binder_at = length - hkdf_.suite().hash_length;
  // Before the binder comes the length of it, and of all binders: there is one.
  Secret binder;
  if (!schedule_.begin(*hello.key) ||
      !schedule_.binder(ConstBytes(message).first(binder_at - kBinderLengths), binder)) {
    return fail("OpenSSL has no HKDF");
  }
  std::copy(binder.get().begin(), binder.get().end(), message.data() + binder_at);
  const ConstBytes whole = ConstBytes(message).first(length);
  schedule_.said(whole);
  alpn_ = hello.alpn;
  has_server_name_ = !hello.server_name.empty();
  const std::array<unsigned char, kHeaderLength> header{
      static_cast<unsigned char>(ContentType::kHandshake), 3, 1,
      static_cast<unsigned char>(length >> 8), static_cast<unsigned char>(length)};
  to_server.insert(to_server.end(), header.begin(), header.end());
  to_server.insert(to_server.end(), whole.begin(), whole.end());
  return true;
}

bool InnerClient::handshake_record(ConstBytes record, std::vector<unsigned char>& to_server) {
  const ConstBytes content = record.subspan(kHeaderLength);
  switch (static_cast<ContentType>(record[0])) {
    case ContentType::kChangeCipherSpec:
      if (compatible_ || stage_ != Stage::kEncryptedExtensions || content.size() != 1 ||
          content[0] != 1) {
        return fail("a ChangeCipherSpec out of place");
      }
      compatible_ = true;
      return true;
    case ContentType::kAlert: return fail("mod_ssl refuses the ClientHello");
    case ContentType::kHandshake:
      if (stage_ != Stage::kServerHello) return fail("a handshake message in the clear");
      messages_.add(content);
      break;
    case ContentType::kApplicationData:
      if (stage_ == Stage::kServerHello) return fail("a record before the ServerHello");
      if (!take_encrypted(record)) return false;
      break;
  }
  return take_messages(to_server);
}

bool InnerClient::take_encrypted(ConstBytes record) {
  std::vector<unsigned char> plain(record.size());
  const RecordOpener::Opened opened = from_server_.open(record, plain);
  if (!opened.good) return fail("a record of the handshake doesn't open");
  if (opened.type == ContentType::kAlert) return fail("mod_ssl ends the handshake");
  if (opened.type != ContentType::kHandshake) return fail("data before the handshake's end");
  messages_.add(ConstBytes(plain).first(opened.length));
  return true;
}

bool InnerClient::take_messages(std::vector<unsigned char>& to_server) {
  HandshakeMessages::Message message;
  while (!done() && messages_.next(message)) {
    if (!take_message(message, to_server)) return false;
  }
  return !messages_.too_long() || fail("a handshake message that is too long");
}

// What comes behind ServerHello or Finished in one record would be under other keys than they say.
bool InnerClient::take_message(const HandshakeMessages::Message& message,
                               std::vector<unsigned char>& to_server) {
  if (stage_ == Stage::kServerHello && message.type == HandshakeType::kServerHello) {
    if (!message.ends_record) return fail("more than a ServerHello");
    if (!take_server_hello(message.body)) return false;
    schedule_.said(message.whole);
    Direction client;
    Direction server;
    if (!schedule_.enter_handshake(client, server) || !to_server_.start(hkdf_, client) ||
        !from_server_.start(hkdf_, server)) {
      return fail("OpenSSL has no keys for the handshake");
    }
    stage_ = Stage::kEncryptedExtensions;
    return true;
  }
  if (stage_ == Stage::kEncryptedExtensions &&
      message.type == HandshakeType::kEncryptedExtensions) {
    if (!take_encrypted_extensions(message.body)) return false;
    schedule_.said(message.whole);
    stage_ = Stage::kFinished;
    return true;
  }
  if (stage_ == Stage::kFinished && message.type == HandshakeType::kFinished) {
    if (!message.ends_record) return fail("more than a Finished");
    if (!take_finished(message.body)) return false;
    schedule_.said(message.whole);
    return finish(to_server);
  }
  return fail("a message that doesn't belong to a resumption");
}

bool InnerClient::take_server_hello(ConstBytes body) {
  Reader in(body);
  const bool version = in.number(2) == 0x0303;
  if (same(in.bytes(kRandomLength), kRetry)) return fail("a HelloRetryRequest");
  const bool echo = in.vector(1).empty();
  const bool suite = in.number(2) == hkdf_.suite().id;
  const bool compression = in.number(1) == 0;
  Reader extensions(in.vector(2));
  if (!version || !echo || !suite || !compression || !in.good() || !in.at_end()) {
    return fail("a ServerHello to something else");
  }
  bool is_13 = false;
  bool resumes = false;
  while (!extensions.at_end()) {
    const auto type = static_cast<Extension>(extensions.number(2));
    Reader extension(extensions.vector(2));
    if (type == Extension::kSupportedVersions && !is_13) {
      is_13 = extension.number(2) == 0x0304;
    } else if (type == Extension::kPreSharedKey && !resumes) {
      resumes = extension.number(2) == 0 && extension.good();
    } else {
      return fail("a ServerHello with what wasn't asked for");
    }
    if (!extension.good() || !extension.at_end()) return fail("a ServerHello that can't be read");
  }
  if (!extensions.good()) return fail("a ServerHello that can't be read");
  return (is_13 && resumes) || fail("mod_ssl doesn't resume");
}

bool InnerClient::take_encrypted_extensions(ConstBytes body) {
  Reader in(body);
  Reader extensions(in.vector(2));
  if (!in.good() || !in.at_end()) return fail("EncryptedExtensions that can't be read");
  while (!extensions.at_end()) {
    const auto type = static_cast<Extension>(extensions.number(2));
    Reader extension(extensions.vector(2));
    if (type == Extension::kServerName && has_server_name_) {
      if (!extension.at_end()) return fail("EncryptedExtensions that can't be read");
    } else if (type == Extension::kAlpn && !alpn_.empty()) {
      Reader list(extension.vector(2));
      const bool as_before = text_of(list.vector(1)) == alpn_;
      if (!as_before || !list.at_end() || !extension.at_end()) return fail("another protocol");
    } else {
      return fail("EncryptedExtensions with what wasn't asked for");
    }
  }
  return extensions.good() || fail("EncryptedExtensions that can't be read");
}

bool InnerClient::take_finished(ConstBytes body) {
  Secret expected;
  if (!schedule_.finished(from_server_.direction().secret, expected)) {
    return fail("OpenSSL has no HKDF");
  }
  const bool equal = body.size() == expected.size() &&
                     CRYPTO_memcmp(body.data(), expected.get().data(), body.size()) == 0;
  return equal || fail("a Finished that is wrong");
}

// The last record under the handshake's keys; then those of the connection.
bool InnerClient::finish(std::vector<unsigned char>& to_server) {
  Secret verify;
  Direction client;
  Direction server;
  if (!schedule_.finished(to_server_.direction().secret, verify) ||
      !schedule_.enter_application(client, server)) {
    return fail("OpenSSL has no HKDF");
  }
  std::array<unsigned char, kOverhead + kMaxFinished> record;
  Writer message(Bytes(record).subspan(kHeaderLength, kMaxFinished));
  message.number(static_cast<std::uint64_t>(HandshakeType::kFinished), 1);
  message.vector(verify.get(), 3);
  const Bytes whole = Bytes(record).first(kOverhead + message.length());
  if (!to_server_.seal(ContentType::kHandshake, message.length(), whole) ||
      !to_server_.start(hkdf_, client) || !from_server_.start(hkdf_, server)) {
    return fail("OpenSSL has no keys for the connection");
  }
  to_server.insert(to_server.end(), whole.begin(), whole.end());
  stage_ = Stage::kDone;
  return true;
}

}  // namespace lingerd::tls
