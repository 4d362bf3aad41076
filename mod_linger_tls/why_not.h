// SPDX-License-Identifier: Apache-2.0
// What keeps a TLS connection with its worker. In doubt it stays.
#pragma once

#include "mod_linger_tls/connection.h"

namespace lingerd::tls {

// In words for the log; null: it can be parked now.
[[nodiscard]] const char* why_not_park(const Connection& ours);

}  // namespace lingerd::tls
