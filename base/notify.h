// SPDX-License-Identifier: Apache-2.0
// What lingerd tells systemd: sd_notify(3). Without systemd each of these does nothing. None waits,
// but for the first.
#pragma once

#include <cstdint>
#include <string>

namespace lingerd {

// To the manager, with a descriptor if there is one. 0, or an errno: a manager that is frozen, or a
// program in between that doesn't read, is waited for for a second at most (sd_notify(3) waits for
// ever).
[[nodiscard]] int notify_manager(const std::string& text, int descriptor = -1);

void notify_ready();      // at the start
void notify_reloading();  // to be followed by notify_reloaded()
void notify_reloaded();
void notify_stopping();
void notify_status(const std::string& text);  // one line, for systemctl status; empty: none
void notify_watchdog();

// How often notify_watchdog() must come, in microseconds; 0: the unit has no WatchdogSec=.
[[nodiscard]] std::uint64_t watchdog_interval_us();

}  // namespace lingerd
