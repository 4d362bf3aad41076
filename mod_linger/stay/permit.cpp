// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/permit.h"

#include <httpd.h>  // before the others, which need it

#include <http_log.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdio>

#include "base/clock.h"
#include "contract/stats_page.h"
#include "contract/stats_reader.h"
#include "mod_linger/child.h"
#include "mod_linger/module.h"
#include "mod_linger/stay/features.h"
#include "mod_linger/tally.h"

namespace lingerd {
namespace {

// A number for this lingerd and no other. Not the process id alone: in a container each is
// process 1. Nor the time of its start, which a successor takes over. 0: there is none.
std::uint64_t number_of(const StatsSnapshot& page) {
  return page.pid == 0 ? 0 : page.started_ns + page.pid;
}

}  // namespace

// Looking at the page every time would cost more than the rest of a hand-off.
bool lingerd_may_park(std::uint64_t now_ns, Otherwise otherwise) {
  constexpr std::uint64_t kLookEveryNs = 100'000'000;
  static std::atomic<std::uint64_t> looked_ns{0};
  static std::atomic<std::uint64_t> lingerd{0};  // its number; 0: it is down, or stuck
  static std::atomic<bool> quick{false};
  const std::uint64_t before = looked_ns.load(std::memory_order_relaxed);
  if (before == 0 || now_ns >= before + kLookEveryNs) {
    const DaemonStatus status = read_stats(stats_path(), now_ns);
    lingerd.store(status.liveness == Liveness::kUp ? number_of(status.snapshot) : 0,
                  std::memory_order_relaxed);
    quick.store(is_quick(status.snapshot, now_ns), std::memory_order_relaxed);
    looked_ns.store(now_ns, std::memory_order_relaxed);
  }
  const std::uint64_t number = lingerd.load(std::memory_order_relaxed);
  const Tally* tally = this_child().tally;
  return number != 0 && tally != nullptr && tally->may_park(number) &&
         (otherwise == Otherwise::kCloses || quick.load(std::memory_order_relaxed));
}

void stop_parking(server_rec* server, ParkingTrouble trouble, uid_t user) {
  const std::uint64_t lingerd = number_of(read_stats(stats_path(), monotonic_ns()).snapshot);
  Tally* tally = this_child().tally;
  if (tally == nullptr || !tally->stop_parking(lingerd)) return;
  const char* stops = features_of(this_child().main_server).stop();
  switch (trouble) {
    case ParkingTrouble::kUnknownUser: {
      struct stat page {};
      char owner[32] = "unknown";
      if (lstat(stats_path(), &page) == 0) {
        std::snprintf(owner, sizeof owner, "user %lu", static_cast<unsigned long>(page.st_uid));
      }
      ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
                   "%s: a connection came back from user %lu, and lingerd is "
                   "known by the owner of %s, which is %s. Start lingerd as a user of its own that "
                   "this system knows (with systemd's User=, or --user of this version), and then "
                   "restart it",
                   stops, static_cast<unsigned long>(user), stats_path(), owner);
      break;
    }
    case ParkingTrouble::kDescriptorLost:
      ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
                   "%s: a connection came back without its descriptor. A "
                   "security policy takes it away (SELinux: ausearch -m avc -ts recent; httpd may "
                   "use lingerd's descriptors with mod_linger's policy module), or this process "
                   "has too many open. Mend it, and then restart httpd",
                   stops);
      break;
    case ParkingTrouble::kOtherVersion:
      ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
                   "%s: lingerd sent back what this version of the module "
                   "doesn't understand. Upgrade both, and then restart httpd",
                   stops);
      break;
  }
}

}  // namespace lingerd
