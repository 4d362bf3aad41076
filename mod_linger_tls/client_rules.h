// SPDX-License-Identifier: Apache-2.0
// What httpd's configuration asks of clients over TLS: their certificates.
#pragma once

#include <httpd.h>

#include <cstdint>

namespace lingerd::tls {

// From post_config.
void learn_client_rules(apr_pool_t* temp_pool);

// The same as long as the same certificates are asked for, of the same servers and directories. The
// client of a parked connection was asked under these.
[[nodiscard]] std::uint32_t client_rules();

// Whether a directory's configuration, or a .htaccess, may ask a client for a certificate in the
// middle of a connection.
[[nodiscard]] bool may_ask_for_certificate();

}  // namespace lingerd::tls
