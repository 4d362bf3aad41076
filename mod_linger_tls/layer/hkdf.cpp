// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/layer/hkdf.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"

namespace lingerd::tls {
namespace {

constexpr std::string_view kPrefix = "tls13 ";
// HkdfLabel (RFC 8446, 7.1) of the longest label and context there are, and HKDF's counter.
constexpr std::size_t kMaxLabel = 16;
constexpr std::size_t kMaxInfo = 2 + 1 + kPrefix.size() + kMaxLabel + 1 + kMaxHashLength + 1;

}  // namespace

// Its digest is set once: each later init with a key keeps it.
Hkdf::Hkdf(const Suite& suite) : suite_(suite) {
  EVP_MAC* algorithm = hmac_algorithm();
  if (algorithm != nullptr) mac_.reset(EVP_MAC_CTX_new(algorithm));
  const std::array<OSSL_PARAM, 2> params{
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, const_cast<char*>(suite.digest), 0),
      OSSL_PARAM_construct_end()};
  if (mac_ && EVP_MAC_CTX_set_params(mac_.get(), params.data()) != 1) mac_.reset();
}

bool Hkdf::hmac(ConstBytes key, ConstBytes data, Bytes out) {
  std::size_t length = 0;
  return mac_ && EVP_MAC_init(mac_.get(), key.data(), key.size(), nullptr) == 1 &&
         EVP_MAC_update(mac_.get(), data.data(), data.size()) == 1 &&
         EVP_MAC_final(mac_.get(), out.data(), &length, out.size()) == 1 &&
         length == suite_.hash_length;
}

bool Hkdf::extract(ConstBytes salt, ConstBytes input, Secret& out) {
  return hmac(salt, input, out.reset(suite_.hash_length));
}

// Never more than one block of HKDF-Expand.
bool Hkdf::expand_label(const Secret& secret, std::string_view label, ConstBytes context,
                        Bytes out) {
  if (label.size() > kMaxLabel || context.size() > kMaxHashLength ||
      out.size() > suite_.hash_length) {
    return false;
  }
  std::array<unsigned char, kMaxInfo> info;
  auto at = info.begin();
  *at++ = 0;
  *at++ = static_cast<unsigned char>(out.size());
  *at++ = static_cast<unsigned char>(kPrefix.size() + label.size());
  at = std::copy(kPrefix.begin(), kPrefix.end(), at);
  at = std::copy(label.begin(), label.end(), at);
  *at++ = static_cast<unsigned char>(context.size());
  at = std::copy(context.begin(), context.end(), at);
  *at++ = 1;
  Secret block;
  const Bytes whole = block.reset(suite_.hash_length);
  if (!hmac(secret.get(), {info.data(), static_cast<std::size_t>(at - info.begin())}, whole)) {
    return false;
  }
  std::copy_n(whole.begin(), out.size(), out.begin());
  return true;
}

bool Hkdf::expand_label(const Secret& secret, std::string_view label, ConstBytes context,
                        Secret& out) {
  Secret derived;  // `out` may be `secret`
  if (!expand_label(secret, label, context, derived.reset(suite_.hash_length))) return false;
  out = derived;
  return true;
}

bool Hkdf::hash(ConstBytes messages, Bytes out) const {
  const EVP_MD* digest = digest_of(suite_);
  return digest != nullptr && out.size() >= suite_.hash_length &&
         EVP_Digest(messages.data(), messages.size(), out.data(), nullptr, digest, nullptr) == 1;
}

bool Hkdf::advance(Direction& direction) {
  direction.sequence = 0;
  return expand_label(direction.secret, "traffic upd", {}, direction.secret);
}

}  // namespace lingerd::tls
