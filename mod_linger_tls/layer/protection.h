// SPDX-License-Identifier: Apache-2.0
// Record protection (RFC 8446, 5.2 to 5.5): one direction of a connection under its traffic secret.
// A sequence number is used for one record, and never again: the number moves on with each call
// that used it, also one that failed.
#pragma once

#include <openssl/evp.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/hkdf.h"
#include "mod_linger_tls/layer/record.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"

namespace lingerd::tls {

// What both have: key, iv, sequence.
class Protection {
 public:
  // Under this secret from now on. False: OpenSSL can't, or the secret isn't the suite's.
  [[nodiscard]] bool start(Hkdf& hkdf, const Direction& direction);
  // The next one, after a KeyUpdate.
  [[nodiscard]] bool advance(Hkdf& hkdf);

  const Direction& direction() const { return direction_; }
  // Nothing is sealed or opened any more.
  void wipe();

 protected:
  explicit Protection(bool seals) : seals_(seals) {}
  ~Protection() { wipe(); }
  // For the next record; false when there are no more numbers.
  bool take_nonce();
  EVP_CIPHER_CTX* context() const { return context_.get(); }

 private:
  bool set_key(Hkdf& hkdf);

  struct FreeCipher {
    void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
  };
  std::unique_ptr<EVP_CIPHER_CTX, FreeCipher> context_;
  std::array<unsigned char, kIvLength> iv_{};
  Direction direction_;
  bool seals_;
};

class RecordSealer : public Protection {
 public:
  RecordSealer() : Protection(true) {}

  // `record` has room for kOverhead and the content (kMaxContent at most), which is elsewhere, or
  // in its place already, from the 6th byte on. It is the record afterwards.
  [[nodiscard]] bool seal(ContentType type, ConstBytes content, Bytes record);
  // In place.
  [[nodiscard]] bool seal(ContentType type, std::size_t length, Bytes record) {
    return record.size() >= kHeaderLength + length &&
           seal(type, ConstBytes(record).subspan(kHeaderLength, length), record);
  }
  // It is time for a KeyUpdate: no more records under this key (RFC 8446, 5.5).
  bool is_worn(const Suite& suite) const { return direction().sequence >= suite.records_per_key; }
};

class RecordOpener : public Protection {
 public:
  RecordOpener() : Protection(false) {}

  struct Opened {
    bool good = false;
    ContentType type{};      // good: kAlert, kHandshake, or kApplicationData
    std::size_t length = 0;  // good: of the content
    Alert alert{};           // not good: what the other side is told
  };
  // `record`: whole, with its header, as RecordParser gives it. `out` has room for as much as comes
  // after the header less the tag, and may be record.subspan(kHeaderLength) itself. Nothing of a
  // record that isn't good stays in `out`.
  [[nodiscard]] Opened open(ConstBytes record, Bytes out);

 private:
  bool decrypt(ConstBytes record, Bytes out);
  static Opened judge(ConstBytes inner, std::size_t padded);
};

}  // namespace lingerd::tls
