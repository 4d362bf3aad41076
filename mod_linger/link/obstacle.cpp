// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/link/obstacle.h"

#include <array>
#include <cstddef>

namespace lingerd {
namespace {

// In the order of Obstacle.
constexpr std::array<ObstacleWords, 7> kWords{{
    {"nothing"},
    {"lingerd is down",
     "lingerd is down: nobody listens at %s (%s). Apache lingers itself until it is back. Start it "
     "(systemctl start lingerd.socket) or correct LingerSocket",
     "httpd's last hand-off found nobody listening at this LingerSocket. If that goes on, restart "
     "lingerd.socket"},
    {"lingerd is of another version",
     "the lingerd at %s takes records of another version than this module's %s. Apache lingers "
     "itself meanwhile. Upgrade both and restart them",
     "httpd's last hand-off failed: lingerd takes records of another version. Upgrade both and "
     "restart them"},
    {"lingerd is busy",
     "lingerd is busy at %s (%s). Apache lingers itself for what lingerd can't take. If it goes "
     "on: "
     "is lingerd stuck or starved of processor time, are its descriptors or those of httpd's user "
     "(RLIMIT_NOFILE) used up?",
     "httpd's last hand-off failed: lingerd didn't keep up, or descriptors are used up "
     "(RLIMIT_NOFILE of lingerd and of httpd's user)"},
    {"lingerd has not answered yet"},
    {"access to lingerd is denied",
     "lingerd denied: httpd's user may not use %s (%s). Apache lingers itself meanwhile. See "
     "lingerd's --socket-group, --socket-mode and --allow-user, the directory's permissions, "
     "SELinux's audit log, and RestrictAddressFamilies= of httpd's unit",
     "httpd's last hand-off was denied: see lingerd's --socket-group, --socket-mode and "
     "--allow-user, the directory's permissions and SELinux's audit log"},
    {"lingerd has refused it"},
}};
static_assert(kWords.size() == static_cast<std::size_t>(Obstacle::kRefused) + 1);

}  // namespace

const ObstacleWords& words_of(Obstacle obstacle) {
  return kWords[static_cast<std::size_t>(obstacle)];
}

}  // namespace lingerd
