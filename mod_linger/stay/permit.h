// SPDX-License-Identifier: Apache-2.0
// Whether idle connections may be given to lingerd now, and what keeps them from it for good.
#pragma once

#include <httpd.h>

#include <sys/types.h>

#include <cstdint>

namespace lingerd {

// Whether lingerd may be given idle connections now: its page says that it lives, and what comes
// back from it is let in. A lingerd that is stopped or stuck keeps what it is given, so where a
// worker could wait as well it must have moved a moment ago. A connection that would be closed
// otherwise has less to lose.
enum class Otherwise { kWaits, kCloses };
[[nodiscard]] bool lingerd_may_park(std::uint64_t now_ns, Otherwise otherwise);

// What keeps parked connections from coming back. Parking stops until lingerd is another process or
// httpd is restarted, and the log says once what to do.
enum class ParkingTrouble { kUnknownUser, kDescriptorLost, kOtherVersion };
void stop_parking(server_rec* server, ParkingTrouble trouble, uid_t user = 0);

}  // namespace lingerd
