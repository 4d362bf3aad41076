// SPDX-License-Identifier: Apache-2.0
// Bytes as RFC 8448 prints them, and records that no honest side sends.
#pragma once

#include <openssl/evp.h>
#include <cstddef>
#include <initializer_list>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/hkdf.h"
#include "mod_linger_tls/layer/protection.h"
#include "mod_linger_tls/layer/record.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"

namespace tls_bytes {

using Buffer = std::vector<unsigned char>;

inline constexpr unsigned char kAlert = 21;
inline constexpr unsigned char kHandshake = 22;
inline constexpr unsigned char kData = 23;

inline Buffer hex(std::string_view text) {
  Buffer out;
  std::string digits;
  for (const char each : text) {
    if (each != ' ' && each != '\n') digits += each;
  }
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    out.push_back(static_cast<unsigned char>(std::stoul(digits.substr(i, 2), nullptr, 16)));
  }
  return out;
}

// In the order in which they are written: operands of + are made in any.
inline Buffer join(std::initializer_list<Buffer> parts) {
  Buffer out;
  for (const Buffer& each : parts) out.insert(out.end(), each.begin(), each.end());
  return out;
}

inline lingerd::tls::Direction direction(const Buffer& secret, std::size_t sequence = 0) {
  lingerd::tls::Direction out;
  const lingerd::tls::Bytes to = out.secret.reset(secret.size());
  std::copy(secret.begin(), secret.end(), to.begin());
  out.sequence = sequence;
  return out;
}

// Of a suite; the same each time.
inline lingerd::tls::Direction some_direction(const lingerd::tls::Suite& suite,
                                              unsigned char first = 1) {
  Buffer secret(suite.hash_length);
  for (unsigned char& each : secret) each = first++;
  return direction(secret);
}

// A record of `content`; with `padding` zeros behind its type.
inline Buffer record_of(lingerd::tls::RecordSealer& sealer, unsigned char type, Buffer content,
                        std::size_t padding = 0) {
  using namespace lingerd::tls;
  if (padding > 0) {
    content.push_back(type);
    content.resize(content.size() + padding - 1);
    type = 0;
  }
  Buffer out(kOverhead + content.size());
  std::copy(content.begin(), content.end(), out.begin() + kHeaderLength);
  const bool sealed = sealer.seal(static_cast<ContentType>(type), content.size(), out);
  return sealed ? out : Buffer{};
}

// A record of any TLSInnerPlaintext, as long as it likes: nothing checks it here. Sequence number
// 0.
inline Buffer record_around(lingerd::tls::Hkdf& hkdf, const lingerd::tls::Secret& secret,
                            const Buffer& inner) {
  using namespace lingerd::tls;
  Buffer key(hkdf.suite().key_length);
  Buffer iv(kIvLength);
  Buffer out(kHeaderLength + inner.size() + kTagLength);
  const std::size_t length = inner.size() + kTagLength;
  out[0] = 23;
  out[1] = out[2] = 3;
  out[3] = static_cast<unsigned char>(length >> 8);
  out[4] = static_cast<unsigned char>(length);
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  int done = 0;
  const bool sealed =
      hkdf.expand_label(secret, "key", {}, key) && hkdf.expand_label(secret, "iv", {}, iv) &&
      EVP_EncryptInit_ex(context, cipher_of(hkdf.suite()), nullptr, key.data(), iv.data()) == 1 &&
      EVP_EncryptUpdate(context, nullptr, &done, out.data(), kHeaderLength) == 1 &&
      EVP_EncryptUpdate(context, out.data() + kHeaderLength, &done, inner.data(),
                        static_cast<int>(inner.size())) == 1 &&
      EVP_EncryptFinal_ex(context, out.data() + kHeaderLength + done, &done) == 1 &&
      EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, kTagLength,
                          out.data() + kHeaderLength + inner.size()) == 1;
  EVP_CIPHER_CTX_free(context);
  return sealed ? out : Buffer{};
}

}  // namespace tls_bytes
