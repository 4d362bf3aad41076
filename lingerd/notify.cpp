// SPDX-License-Identifier: Apache-2.0
#include "lingerd/notify.h"

#include <systemd/sd-daemon.h>

#include <ctime>

namespace lingerd {

void notify_ready() {
  sd_notify(0, "READY=1");
}

// Type=notify-reload wants the time at which the reload began, to tell it from an earlier READY=1.
void notify_reloading() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld%06ld", static_cast<long long>(now.tv_sec),
             now.tv_nsec / 1000);
}

void notify_stopping() {
  sd_notify(0, "STOPPING=1");
}

void notify_status(const char* text) {
  sd_notifyf(0, "STATUS=%s", text);
}

void notify_watchdog() {
  sd_notify(0, "WATCHDOG=1");
}

std::uint64_t watchdog_interval_us() {
  std::uint64_t interval = 0;
  return sd_watchdog_enabled(0, &interval) > 0 ? interval : 0;
}

}  // namespace lingerd
