// SPDX-License-Identifier: Apache-2.0
// The numbers, on server-status and on a page of their own.
#pragma once

#include <httpd.h>

namespace lingerd {

void hook_server_status();                        // optional: mod_status may not be there
int linger_status_handler(request_rec* request);  // SetHandler linger-status

}  // namespace lingerd
