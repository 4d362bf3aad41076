// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/keepalive/authentication.h"

#include <httpd.h>  // before the others, which need it

#include <apr_tables.h>

#include "mod_linger/keepalive/credentials.h"

namespace lingerd {
namespace {

// In any header of this name. Most have none: that is told faster than by looking at all.
bool names_such_a_scheme(const apr_table_t* headers, const char* name) {
  bool found = false;
  if (apr_table_get(headers, name) == nullptr) return false;
  const auto look = [](void* result, const char*, const char* value) -> int {
    const bool binds = binds_connection(value);
    *static_cast<bool*>(result) = binds;
    return binds ? 0 : 1;  // 0 ends it
  };
  apr_table_do(look, &found, headers, name, nullptr);
  return found;
}

}  // namespace

bool authenticates_connection(const request_rec* request) {
  return names_such_a_scheme(request->headers_in, "Authorization") ||
         names_such_a_scheme(request->headers_in, "Proxy-Authorization");
}

bool offers_to_authenticate_connection(const request_rec* request) {
  for (const apr_table_t* headers : {request->err_headers_out, request->headers_out}) {
    if (names_such_a_scheme(headers, "WWW-Authenticate") ||
        names_such_a_scheme(headers, "Proxy-Authenticate")) {
      return true;
    }
  }
  return false;
}

}  // namespace lingerd
