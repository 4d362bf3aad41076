// SPDX-License-Identifier: Apache-2.0
// A connection's end, as LingerKeepAlive sees it: the step of ClosingSteps that is its own.
//
// What has been read ahead is answered. httpd looks for the next request when it has answered
// one, and closes the connection if its child is to end meanwhile. What that look has found
// isn't in the socket any more; so before such a connection is parked, that request is read and
// answered here, with Connection: close.
#pragma once

#include <httpd.h>

namespace lingerd {

struct Connection;

// True: it has been parked. A child that is about to end (a graceful restart,
// MaxConnectionsPerChild) closes its connections after the request under way, which their clients
// can't know: with the next one they find it closed. Parked instead they go on with another child;
// a request that is there already is answered here first.
[[nodiscard]] bool goes_instead_of_closing(conn_rec* connection, Connection& ours);

}  // namespace lingerd
