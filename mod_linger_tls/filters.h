// SPDX-License-Identifier: Apache-2.0
// The filters directly under mod_ssl's: all that it reads from the client and writes to it goes
// through them.
#pragma once

#include <httpd.h>

#include "mod_linger_tls/connection.h"

namespace lingerd::tls {

void register_filters();
void add_filters(conn_rec* connection, Connection& ours);

}  // namespace lingerd::tls
