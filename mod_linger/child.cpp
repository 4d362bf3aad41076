// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/child.h"

#include <httpd.h>  // before the others, which need it

#include <http_log.h>

#include <cstring>
#include <ctime>
#include <new>
#include <string>

#include "lingerd/stats_reader.h"
#include "mod_linger/module.h"
#include "mod_linger/offload.h"
#include "mod_linger/settings.h"

namespace lingerd {

Child& this_child() {
  static Child child;
  return child;
}

std::uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

int prepare(apr_pool_t*, apr_pool_t*, apr_pool_t*, server_rec* server) {
  Child& child = this_child();
  child.main_server = server;
  child.socket_path = settings_of(server).socket_path;
  child.tally = find_or_make_tally(server);
  look_for_offload(server);
  return OK;
}

void start_child(apr_pool_t* child_pool, server_rec*) {
  Child& child = this_child();
  if (child.tally == nullptr) return;
  child.client = new (std::nothrow) Client(child.socket_path);
  if (child.client == nullptr) return;
  apr_pool_cleanup_register(
      child_pool, child.client,
      [](void* client) -> apr_status_t {
        this_child().client = nullptr;
        delete static_cast<Client*>(client);
        return APR_SUCCESS;
      },
      apr_pool_cleanup_null);
  const std::uint64_t now = monotonic_ns();
  const Client::Result result = child.client->start(now);
  if (result.obstacle == Obstacle::kNone) {
    announce_up();
  } else {
    announce(result.obstacle, result.error, now);
  }
}

void announce(Obstacle obstacle, int error, std::uint64_t now_ns) {
  const Child& child = this_child();
  if (child.tally == nullptr || !child.tally->found(obstacle, now_ns)) return;
  const char* path = child.socket_path;
  const auto reason = error != 0 ? std::strerror(error) : "it said so";
  constexpr int kLevel = APLOG_WARNING;
  switch (obstacle) {
    case Obstacle::kDown:
      ap_log_error(APLOG_MARK, kLevel, 0, child.main_server,
                   "lingerd is down: nobody listens at %s (%s). Apache lingers itself until it is "
                   "back. Start it (systemctl start lingerd.socket) or correct LingerSocket",
                   path, reason);
      break;
    case Obstacle::kOtherVersion:
      ap_log_error(APLOG_MARK, kLevel, 0, child.main_server,
                   "the lingerd at %s takes records of another version than this module's %u. "
                   "Apache lingers itself meanwhile. Upgrade both and restart them",
                   path, static_cast<unsigned>(kRecordVersion));
      break;
    case Obstacle::kDenied:
      ap_log_error(APLOG_MARK, kLevel, 0, child.main_server,
                   "lingerd denied: httpd's user may not use %s (%s). Apache lingers itself "
                   "meanwhile. See lingerd's --socket-group, --socket-mode and --allow-user, the "
                   "directory's permissions and SELinux's audit log",
                   path, reason);
      break;
    case Obstacle::kBusy:
      ap_log_error(APLOG_MARK, kLevel, 0, child.main_server,
                   "lingerd is busy at %s (%s). Apache lingers itself for what lingerd can't take. "
                   "If it goes on: is lingerd stuck or starved of processor time, are its "
                   "descriptors or those of httpd's user (RLIMIT_NOFILE) used up?",
                   path, reason);
      break;
    case Obstacle::kGreeting:
    case Obstacle::kRefused:
    case Obstacle::kNone: break;
  }
}

bool lingerd_has_room(std::uint64_t bytes) {
  const std::string page = std::string(this_child().socket_path) + ".stats";
  const DaemonStatus status = read_stats(page.c_str(), monotonic_ns());
  const DaemonCounters& counters = status.snapshot.counters;
  const std::uint64_t taken = counters[DaemonCounter::kOffloadMemory];
  const std::uint64_t limit = counters[DaemonCounter::kOffloadMemoryLimit];
  const bool fits = bytes == 0 || (taken < limit && bytes <= limit - taken);
  return status.liveness == Liveness::kUp && fits &&
         has_room_for_delivery(deliveries_under_way(counters),
                               counters[DaemonCounter::kQueueLimit]);
}

void log_back(const Tally::Change& change) {
  const Child& child = this_child();
  ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, child.main_server,
               "lingerd is back at %s; %" APR_UINT64_T_FMT " connections fell back meanwhile",
               child.socket_path, static_cast<apr_uint64_t>(change.fallbacks));
}

}  // namespace lingerd
