// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/layer/protection.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/hkdf.h"
#include "mod_linger_tls/layer/record.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"

namespace lingerd::tls {

bool Protection::start(Hkdf& hkdf, const Direction& direction) {
  direction_ = direction;
  return direction_.secret.size() == hkdf.suite().hash_length && set_key(hkdf);
}

bool Protection::advance(Hkdf& hkdf) {
  return context_ && hkdf.advance(direction_) && set_key(hkdf);
}

void Protection::wipe() {
  context_.reset();
  direction_ = {};
  OPENSSL_cleanse(iv_.data(), iv_.size());
}

bool Protection::set_key(Hkdf& hkdf) {
  const EVP_CIPHER* cipher = cipher_of(hkdf.suite());
  if (!context_) context_.reset(EVP_CIPHER_CTX_new());
  Secret key;
  const Bytes bytes = key.reset(hkdf.suite().key_length);
  const bool set =
      cipher != nullptr && context_ && hkdf.expand_label(direction_.secret, "key", {}, bytes) &&
      hkdf.expand_label(direction_.secret, "iv", {}, Bytes(iv_)) &&
      EVP_CipherInit_ex(context_.get(), cipher, nullptr, bytes.data(), nullptr, seals_) == 1;
  if (!set) wipe();
  return set;
}

// RFC 8446, 5.3.
bool Protection::take_nonce() {
  if (!context_ || direction_.sequence == std::numeric_limits<std::uint64_t>::max()) return false;
  std::array<unsigned char, kIvLength> nonce = iv_;
  const std::uint64_t sequence = direction_.sequence++;
  for (std::size_t i = 0; i < sizeof sequence; ++i) {
    nonce[kIvLength - 1 - i] ^= static_cast<unsigned char>(sequence >> (8 * i));
  }
  return EVP_CipherInit_ex(context_.get(), nullptr, nullptr, nullptr, nonce.data(), -1) == 1;
}

bool RecordSealer::seal(ContentType type, ConstBytes content, Bytes record) {
  const std::size_t length = content.size();
  if (length > kMaxContent || record.size() != kOverhead + length || !take_nonce()) return false;
  const std::size_t behind_header = length + 1 + kTagLength;
  record[0] = static_cast<unsigned char>(ContentType::kApplicationData);
  record[1] = record[2] = 3;
  record[3] = static_cast<unsigned char>(behind_header >> 8);
  record[4] = static_cast<unsigned char>(behind_header);
  const auto inner_type = static_cast<unsigned char>(type);
  unsigned char* out = record.data() + kHeaderLength;
  int done = 0;
  return EVP_EncryptUpdate(context(), nullptr, &done, record.data(), kHeaderLength) == 1 &&
         EVP_EncryptUpdate(context(), out, &done, content.data(), static_cast<int>(length)) == 1 &&
         EVP_EncryptUpdate(context(), out + length, &done, &inner_type, 1) == 1 &&
         EVP_EncryptFinal_ex(context(), out + length + 1, &done) == 1 &&
         EVP_CIPHER_CTX_ctrl(context(), EVP_CTRL_AEAD_GET_TAG, kTagLength, out + length + 1) == 1;
}

bool RecordOpener::decrypt(ConstBytes record, Bytes out) {
  const unsigned char* ciphertext = record.data() + kHeaderLength;
  auto* tag = const_cast<unsigned char*>(record.data() + record.size() - kTagLength);
  int done = 0;
  int rest = 0;
  return EVP_CIPHER_CTX_ctrl(context(), EVP_CTRL_AEAD_SET_TAG, kTagLength, tag) == 1 &&
         EVP_DecryptUpdate(context(), nullptr, &done, record.data(), kHeaderLength) == 1 &&
         EVP_DecryptUpdate(context(), out.data(), &done, ciphertext,
                           static_cast<int>(out.size())) == 1 &&
         EVP_DecryptFinal_ex(context(), out.data() + done, &rest) == 1;
}

RecordOpener::Opened RecordOpener::open(ConstBytes record, Bytes out) {
  Opened opened{.alert = Alert::kBadRecordMac};
  if (record.size() < kHeaderLength + 1 + kTagLength) return opened;
  std::size_t length = record.size() - kHeaderLength - kTagLength;
  if (out.size() < length || !take_nonce()) {
    opened.alert = Alert::kInternalError;
    return opened;
  }
  out = out.first(length);
  if (decrypt(record, out)) {
    while (length > 0 && out[length - 1] == 0) --length;
    opened = judge(out.first(length), out.size());
  }
  if (!opened.good) OPENSSL_cleanse(out.data(), out.size());
  return opened;
}

// Of TLSInnerPlaintext without its padding (RFC 8446, 5.4): the last byte is the content's type.
// `padded`: its length with it.
RecordOpener::Opened RecordOpener::judge(ConstBytes inner, std::size_t padded) {
  Opened opened;
  if (padded > kMaxContent + 1) {
    opened.alert = Alert::kRecordOverflow;
    return opened;
  }
  opened.alert = Alert::kUnexpectedMessage;
  if (inner.empty()) return opened;
  opened.type = static_cast<ContentType>(inner.back());
  opened.length = inner.size() - 1;
  // Only application data may be empty.
  opened.good = opened.type == ContentType::kApplicationData ||
                (opened.length > 0 &&
                 (opened.type == ContentType::kAlert || opened.type == ContentType::kHandshake));
  return opened;
}

}  // namespace lingerd::tls
