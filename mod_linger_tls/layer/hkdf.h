// SPDX-License-Identifier: Apache-2.0
// RFC 8446, 7.1: the functions of the key schedule. All say false if OpenSSL can't.
#pragma once

#include <openssl/evp.h>

#include <memory>
#include <string_view>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"

namespace lingerd::tls {

class Hkdf {
 public:
  explicit Hkdf(const Suite& suite);

  // `out`: as long as the suite's hash.
  [[nodiscard]] bool hmac(ConstBytes key, ConstBytes data, Bytes out);
  [[nodiscard]] bool extract(ConstBytes salt, ConstBytes input, Secret& out);
  // `out`: at most as long as the suite's hash; `label` without "tls13 ", which it puts before.
  [[nodiscard]] bool expand_label(const Secret& secret, std::string_view label, ConstBytes context,
                                  Bytes out);
  [[nodiscard]] bool expand_label(const Secret& secret, std::string_view label, ConstBytes context,
                                  Secret& out);
  // Of what was said so far.
  [[nodiscard]] bool hash(ConstBytes messages, Bytes out) const;

  // After a KeyUpdate (RFC 8446, 7.2): the next secret, whose records count from 0.
  [[nodiscard]] bool advance(Direction& direction);

  const Suite& suite() const { return suite_; }

 private:
  struct FreeMac {
    void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }
  };
  const Suite& suite_;
  std::unique_ptr<EVP_MAC_CTX, FreeMac> mac_;
};

}  // namespace lingerd::tls
