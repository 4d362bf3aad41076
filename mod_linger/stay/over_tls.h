// SPDX-License-Identifier: Apache-2.0
// Connections over TLS, which linger_tls_module knows more about (mod_linger/tls/parking.h).
#pragma once

#include <httpd.h>  // before the others, which need it

#include <cstdint>

#include "mod_linger/stay/return_tag.h"
#include "mod_linger/tls/parking.h"

namespace lingerd {

// Lets linger_tls_module find us.
void register_tls_parking();

// Null: that module isn't there.
[[nodiscard]] const TlsParking* tls_parking();

// The same, of a connection that it knows; null for all others.
[[nodiscard]] const TlsParking* tls_parking_of(conn_rec* connection);

// Until when the state of one that is parked now is kept: a while longer than lingerd keeps it, and
// than it stands in line.
[[nodiscard]] std::uint64_t keep_until(std::uint64_t now_ns, std::uint32_t keepalive_ms);

// `identity` must outlive it.
[[nodiscard]] TlsBinding binding_of(const SocketIdentity& identity);

}  // namespace lingerd
