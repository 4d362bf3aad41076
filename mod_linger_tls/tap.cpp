// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/tap.h"

#include <openssl/ssl3.h>
#include <openssl/tls1.h>

#include <algorithm>
#include <optional>

#include "mod_linger_tls/layer/hkdf.h"
#include "mod_linger_tls/layer/suite.h"
#include "mod_linger_tls/layer/wire.h"

namespace lingerd::tls {
namespace {

constexpr unsigned char kEndOfEarlyData = 5;
constexpr int kApplicationData = 23;
constexpr std::uint16_t kPostHandshakeAuth = 49;

std::optional<unsigned char> digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned char>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned char>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<unsigned char>(c - 'A' + 10);
  return std::nullopt;
}

// False: not hexadecimal, or longer than any secret.
bool read_secret(std::string_view hex, Secret& secret) {
  if (hex.empty() || hex.size() % 2 != 0 || hex.size() / 2 > kMaxHashLength) return false;
  const Bytes bytes = secret.reset(hex.size() / 2);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto high = digit(hex[2 * i]);
    const auto low = digit(hex[2 * i + 1]);
    if (!high || !low) return false;
    bytes[i] = static_cast<unsigned char>(*high << 4 | *low);
  }
  return true;
}

}  // namespace

bool offers_post_handshake_auth(ConstBytes client_hello) {
  constexpr std::size_t kMessageHeader = 4;
  constexpr std::size_t kVersionAndRandom = 2 + 32;
  Reader reader(client_hello);
  reader.bytes(kMessageHeader + kVersionAndRandom);
  reader.vector(1);  // session id
  reader.vector(2);  // cipher suites
  reader.vector(1);  // compression methods
  if (!reader.good()) return true;
  if (reader.at_end()) return false;
  Reader extensions(reader.vector(2));
  while (extensions.good() && !extensions.at_end()) {
    const std::uint64_t type = extensions.number(2);
    extensions.vector(2);
    if (type == kPostHandshakeAuth) return true;
  }
  return !reader.good() || !extensions.good();
}

void Tap::note_log_line(std::string_view line) {
  constexpr std::string_view kClient = "CLIENT_TRAFFIC_SECRET_0 ";
  constexpr std::string_view kServer = "SERVER_TRAFFIC_SECRET_0 ";
  const bool client = line.starts_with(kClient);
  if (!client && !line.starts_with(kServer)) {
    if (line.starts_with("CLIENT_EARLY")) strange_ = "early data";
    return;
  }
  // Label, client random, secret.
  line.remove_prefix(kClient.size());
  line.remove_prefix(std::min(line.find(' ') + 1, line.size()));
  Side& side = client ? client_ : server_;
  if (!read_secret(line, side.direction.secret)) strange_ = "a key log of another form";
}

void Tap::note_message(bool written, int content_type, ConstBytes bytes, std::uint16_t suite) {
  if (bytes.empty()) return;
  Side& side = written ? server_ : client_;
  switch (content_type) {
    case SSL3_RT_HEADER:
      if (bytes[0] == kApplicationData) ++side.direction.sequence;
      break;
    case SSL3_RT_HANDSHAKE: note_handshake(side, bytes, suite); break;
    case SSL3_RT_ALERT: alert_ = true; break;
    default: break;
  }
}

void Tap::note_handshake(Side& side, ConstBytes message, std::uint16_t suite) {
  const unsigned char type = message[0];
  if (!side.open) {
    if (type == SSL3_MT_CLIENT_HELLO) late_authentication_ = offers_post_handshake_auth(message);
    if (type == kEndOfEarlyData) strange_ = "early data";
    if (type == SSL3_MT_FINISHED) {
      side.open = true;
      side.direction.sequence = 0;
    }
    return;
  }
  if (type == SSL3_MT_KEY_UPDATE) {
    advance(side, suite);
  } else if (type != SSL3_MT_NEWSESSION_TICKET) {
    strange_ = "a message after its handshake";
  }
}

void Tap::advance(Side& side, std::uint16_t suite) {
  const Suite* known = suite_of(suite);
  if (known == nullptr || !Hkdf(*known).advance(side.direction)) strange_ = "a KeyUpdate";
}

void Tap::wipe() {
  client_.direction.secret.reset(0);
  server_.direction.secret.reset(0);
}

}  // namespace lingerd::tls
