// SPDX-License-Identifier: Apache-2.0
// What mod_linger is told (mod_linger/tls/parking.h).
#pragma once

#include "mod_linger/tls/parking.h"

namespace lingerd::tls {

[[nodiscard]] const TlsParking& parking();

}  // namespace lingerd::tls
