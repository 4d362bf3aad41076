// SPDX-License-Identifier: Apache-2.0
// mod_ssl's SSL objects are this module's as well: both must use one and the same libssl.
#pragma once

namespace lingerd::tls {

// Why they can't work together, in words for the log; null: they can. mod_ssl must be loaded.
[[nodiscard]] const char* what_is_wrong_with_libraries();

// Until httpd ends, whatever a restart unloads: OpenSSL's numbers are good for as long as it is
// there.
[[nodiscard]] bool keep_openssl_loaded();

}  // namespace lingerd::tls
