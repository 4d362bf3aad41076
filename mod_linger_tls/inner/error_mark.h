// SPDX-License-Identifier: Apache-2.0
// What fails here must leave no error in OpenSSL's queue: this runs inside mod_ssl's calls, and its
// SSL_get_error() would take it for its own.
#pragma once

#include <openssl/err.h>

namespace lingerd::tls {

class ErrorMark {
 public:
  ErrorMark() { ERR_set_mark(); }
  ~ErrorMark() { ERR_pop_to_mark(); }
  ErrorMark(const ErrorMark&) = delete;
  ErrorMark& operator=(const ErrorMark&) = delete;
};

}  // namespace lingerd::tls
