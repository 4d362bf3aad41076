// SPDX-License-Identifier: Apache-2.0
// A connection's end, as LingerOffload sees it: the steps of ClosingSteps that are its own.
#pragma once

#include "mod_linger/closing.h"

namespace lingerd {

// Whatever the sender has left goes to lingerd with the socket, and lingerd sends the FIN behind
// it; or it is sent here, as httpd would: the worker waits for the client, each time for at most
// the server's Timeout.
[[nodiscard]] RestIs part_with_rest(Closing& closing);

// The rest is out of the worker's hands, or lost: the request ends now.
void end_request(Closing& closing, bool lost);

}  // namespace lingerd
