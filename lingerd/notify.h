// SPDX-License-Identifier: Apache-2.0
// What lingerd tells systemd: sd_notify(3). Without systemd each of these does nothing.
#pragma once

#include <cstdint>

namespace lingerd {

void notify_ready();
void notify_reloading();  // to be followed by notify_ready()
void notify_stopping();
void notify_status(const char* text);  // one line, for systemctl status
void notify_watchdog();

// How often notify_watchdog() must come, in microseconds; 0: the unit has no WatchdogSec=.
[[nodiscard]] std::uint64_t watchdog_interval_us();

}  // namespace lingerd
