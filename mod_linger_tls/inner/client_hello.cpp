// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/inner/client_hello.h"

#include <openssl/rand.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/handshake_messages.h"
#include "mod_linger_tls/layer/suite.h"
#include "mod_linger_tls/layer/wire.h"

namespace lingerd::tls {
namespace {

constexpr std::size_t kMaxName = 255;
constexpr std::uint64_t kSecureRenegotiation = 0x00FF;  // RFC 5746, 3.3: no cipher, a signal
constexpr unsigned char kHostName = 0;
constexpr unsigned char kPskKe = 0;

std::size_t open(Writer& out, Extension type) {
  out.number(static_cast<std::uint64_t>(type), 2);
  return out.open(2);
}

void write_server_name(Writer& out, std::string_view name) {
  const std::size_t extension = open(out, Extension::kServerName);
  const std::size_t list = out.open(2);
  out.number(kHostName, 1);
  out.vector(bytes_of(name), 2);
  out.close(list, 2);
  out.close(extension, 2);
}

void write_alpn(Writer& out, std::string_view protocol) {
  const std::size_t extension = open(out, Extension::kAlpn);
  const std::size_t list = out.open(2);
  out.vector(bytes_of(protocol), 1);
  out.close(list, 2);
  out.close(extension, 2);
}

// A list of one number.
void write_choice(Writer& out, Extension type, std::uint64_t value, std::size_t width) {
  const std::size_t extension = open(out, type);
  out.number(width, 1);
  out.number(value, width);
  out.close(extension, 2);
}

// The last extension, always. An external key has no age.
void write_pre_shared_key(Writer& out, ConstBytes identity, std::size_t binder_length) {
  static constexpr std::array<unsigned char, kMaxHashLength> kRoom{};
  const std::size_t extension = open(out, Extension::kPreSharedKey);
  const std::size_t identities = out.open(2);
  out.vector(identity, 2);
  out.number(0, 4);
  out.close(identities, 2);
  const std::size_t binders = out.open(2);
  out.vector(ConstBytes(kRoom).first(binder_length), 1);
  out.close(binders, 2);
  out.close(extension, 2);
}

}  // namespace

std::size_t write_client_hello(const Suite& suite, const InnerHello& hello,
                               std::array<unsigned char, kMaxClientHello>& out) {
  std::array<unsigned char, kRandomLength> random;
  if (hello.server_name.size() > kMaxName || hello.alpn.size() > kMaxName ||
      RAND_bytes(random.data(), kRandomLength) != 1) {
    return 0;
  }
  Writer writer(out);
  writer.number(static_cast<std::uint64_t>(HandshakeType::kClientHello), 1);
  const std::size_t message = writer.open(3);
  writer.number(0x0303, 2);
  writer.bytes(random);
  writer.vector({}, 1);  // no session of an older version
  const std::size_t suites = writer.open(2);
  writer.number(suite.id, 2);
  if (hello.secure_renegotiation) writer.number(kSecureRenegotiation, 2);
  writer.close(suites, 2);
  writer.number(0x0100, 2);  // no compression
  const std::size_t extensions = writer.open(2);
  if (!hello.server_name.empty()) write_server_name(writer, hello.server_name);
  if (!hello.alpn.empty()) write_alpn(writer, hello.alpn);
  write_choice(writer, Extension::kSupportedVersions, 0x0304, 2);
  write_choice(writer, Extension::kPskKeyExchangeModes, kPskKe, 1);
  write_pre_shared_key(writer, hello.identity, suite.hash_length);
  writer.close(extensions, 2);
  writer.close(message, 3);
  return writer.length();
}

}  // namespace lingerd::tls
