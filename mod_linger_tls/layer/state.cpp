// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/layer/state.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"
#include "mod_linger_tls/layer/wire.h"

namespace lingerd::tls {
namespace {

constexpr unsigned kSecureRenegotiation = 1;
constexpr unsigned kLateAuthentication = 2;
constexpr unsigned kAllFlags = kSecureRenegotiation | kLateAuthentication;
constexpr unsigned char kFormat = 1;
constexpr std::uint16_t kSealingSuite = 0x1302;  // for its cipher, AES-256-GCM
constexpr std::size_t kMaxName = 255;

// Where an encoded state lies in the clear: wiped when it goes.
struct Plain {
  std::array<unsigned char, kMaxState> bytes;
  ~Plain() { OPENSSL_cleanse(bytes.data(), bytes.size()); }
};

struct FreeCipher {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeCipher>;

void read(Reader& in, const Suite& suite, Direction& direction) {
  direction.sequence = in.number(8);
  const ConstBytes secret = in.bytes(suite.hash_length);
  const Bytes out = direction.secret.reset(suite.hash_length);
  std::copy(secret.begin(), secret.end(), out.begin());
}

// Key, nonce, and what is authenticated besides.
bool begin(const CipherContext& context, const SealKey& key, const unsigned char* nonce,
           ConstBytes bound_to, bool seals) {
  const EVP_CIPHER* cipher = cipher_of(*suite_of(kSealingSuite));
  int done = 0;
  return context && cipher != nullptr &&
         EVP_CipherInit_ex(context.get(), cipher, nullptr, key.data(), nonce, seals) == 1 &&
         EVP_CipherUpdate(context.get(), nullptr, &done, &kFormat, 1) == 1 &&
         EVP_CipherUpdate(context.get(), nullptr, &done, bound_to.data(),
                          static_cast<int>(bound_to.size())) == 1;
}

}  // namespace

std::size_t encode(const TlsState& state, Bytes out) {
  const Suite* suite = suite_of(state.suite);
  if (suite == nullptr || state.server_name.size() > kMaxName || state.alpn.size() > kMaxName ||
      state.session.size() > kMaxState) {
    return 0;
  }
  Writer writer(out);
  writer.number(state.suite, 2);
  writer.number(state.trips, 4);
  writer.number((state.secure_renegotiation ? kSecureRenegotiation : 0u) |
                    (state.late_authentication ? kLateAuthentication : 0u),
                1);
  writer.number(state.client_rules, 4);
  for (const Direction* each : {&state.client, &state.server}) {
    if (each->secret.size() != suite->hash_length) return 0;
    writer.number(each->sequence, 8);
    writer.bytes(each->secret.get());
  }
  for (const std::string* each : {&state.server_name, &state.alpn}) {
    writer.vector(bytes_of(*each), 1);
  }
  writer.vector(state.session, 2);
  return writer.length();
}

bool decode(ConstBytes bytes, TlsState& state) {
  Reader in(bytes);
  state.suite = static_cast<std::uint16_t>(in.number(2));
  const Suite* suite = suite_of(state.suite);
  if (suite == nullptr) return false;
  state.trips = static_cast<std::uint32_t>(in.number(4));
  const std::uint64_t flags = in.number(1);
  state.secure_renegotiation = (flags & kSecureRenegotiation) != 0;
  state.late_authentication = (flags & kLateAuthentication) != 0;
  state.client_rules = static_cast<std::uint32_t>(in.number(4));
  read(in, *suite, state.client);
  read(in, *suite, state.server);
  state.server_name = text_of(in.vector(1));
  state.alpn = text_of(in.vector(1));
  const ConstBytes session = in.vector(2);
  state.session.assign(session.begin(), session.end());
  return in.good() && in.at_end() && flags <= kAllFlags;
}

std::size_t seal(const TlsState& state, const SealKey& key, ConstBytes bound_to, Bytes out) {
  Plain plain;
  const std::size_t length = encode(state, plain.bytes);
  if (length == 0 || out.size() < kSealOverhead + length) return 0;
  out[0] = kFormat;
  unsigned char* nonce = out.data() + 1;
  unsigned char* sealed = nonce + kIvLength;
  const CipherContext context(EVP_CIPHER_CTX_new());
  int done = 0;
  int rest = 0;
  const bool good =
      RAND_bytes(nonce, kIvLength) == 1 && begin(context, key, nonce, bound_to, true) &&
      EVP_EncryptUpdate(context.get(), sealed, &done, plain.bytes.data(),
                        static_cast<int>(length)) == 1 &&
      EVP_EncryptFinal_ex(context.get(), sealed + done, &rest) == 1 &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kTagLength, sealed + length) == 1;
  return good ? kSealOverhead + length : 0;
}

bool unseal(ConstBytes sealed, const SealKey& key, ConstBytes bound_to, TlsState& state) {
  if (sealed.size() <= kSealOverhead || sealed.size() > kMaxSealedState || sealed[0] != kFormat) {
    return false;
  }
  const std::size_t length = sealed.size() - kSealOverhead;
  const unsigned char* nonce = sealed.data() + 1;
  const unsigned char* bytes = nonce + kIvLength;
  auto* tag = const_cast<unsigned char*>(bytes + length);
  Plain plain;
  const CipherContext context(EVP_CIPHER_CTX_new());
  int done = 0;
  int rest = 0;
  return begin(context, key, nonce, bound_to, false) &&
         EVP_DecryptUpdate(context.get(), plain.bytes.data(), &done, bytes,
                           static_cast<int>(length)) == 1 &&
         EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, kTagLength, tag) == 1 &&
         EVP_DecryptFinal_ex(context.get(), plain.bytes.data() + done, &rest) == 1 &&
         decode({plain.bytes.data(), length}, state);
}

}  // namespace lingerd::tls
