// SPDX-License-Identifier: Apache-2.0
// Whether a request, or its answer, makes the whole connection its user's (NTLM, Negotiate): such a
// connection can't be parked, for what another process would know of it.
#pragma once

#include <httpd.h>

namespace lingerd {

// The request brings credentials of that kind. From post_read_request: modules change the headers.
[[nodiscard]] bool authenticates_connection(const request_rec* request);

// The answer asks for them, or goes on with the handshake.
[[nodiscard]] bool offers_to_authenticate_connection(const request_rec* request);

}  // namespace lingerd
