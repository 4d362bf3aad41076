// SPDX-License-Identifier: Apache-2.0
// The hand-off: what happens to a connection when Apache is about to close it.
#pragma once

#include <httpd.h>

namespace lingerd {

// pre_close_connection hook, before everybody else's.
int pre_close(conn_rec* connection);

}  // namespace lingerd
