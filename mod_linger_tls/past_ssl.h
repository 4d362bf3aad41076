// SPDX-License-Identifier: Apache-2.0
// The filter directly above mod_ssl's, for connections that have come back: what a response holds
// doesn't go through mod_ssl's object, which would only encrypt it for the bridge to open and
// encrypt once more, but is sealed for the client here. mod_ssl still reads what the client sends,
// and says goodbye.
#pragma once

#include <httpd.h>

#include "mod_linger_tls/connection.h"

namespace lingerd::tls {

void register_past_ssl();
// Before mod_ssl adds its own.
void add_past_ssl(conn_rec* connection, Connection& ours);

}  // namespace lingerd::tls
