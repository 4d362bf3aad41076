// SPDX-License-Identifier: Apache-2.0
// A parked connection's arrival in a child: its state is claimed, once, before the core makes
// a connection of its socket, and waits there for it.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_network_io.h>

#include <cstdint>

#include "mod_linger/tls/parking.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/state.h"

namespace lingerd::tls {

struct Arrival {
  TlsState state;
  std::uint64_t since_ns = 0;
};

// As TlsParking::claim.
TlsClaim claim(apr_socket_t* socket, const TlsBinding& binding, std::uint64_t stay) noexcept;

// Null: it hasn't been parked.
[[nodiscard]] Arrival* arrival_on(apr_socket_t* socket);

}  // namespace lingerd::tls
