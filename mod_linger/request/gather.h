// SPDX-License-Identifier: Apache-2.0
// Whether a request that begins goes to lingerd until the rest of it has come.
#pragma once

#include <httpd.h>

namespace lingerd {

struct Request;

// True: it has gone, and the connection ends here. Else httpd reads it, as far as it is there
// `request.kept` first.
[[nodiscard]] bool gathers(conn_rec* connection, Request& request);

}  // namespace lingerd
