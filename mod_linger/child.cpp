// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/child.h"

#include <httpd.h>  // before the others, which need it

#include <ap_mpm.h>
#include <apr_strings.h>
#include <http_log.h>
#include <unixd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

#include "base/clock.h"
#include "contract/record.h"
#include "contract/stats_page.h"
#include "mod_linger/module.h"
#include "mod_linger/settings.h"

namespace lingerd {

Child& this_child() {
  static Child child;
  return child;
}

int prepare(apr_pool_t* config_pool, apr_pool_t*, apr_pool_t*, server_rec* server) {
  Child& child = this_child();
  child.main_server = server;
  child.socket_path = settings_of(server).socket_path;
  child.stats_path = apr_pstrdup(config_pool, stats_path_of(child.socket_path).c_str());
  child.tally = find_or_make_tally(server);
  if (child.tally != nullptr) child.place = child.tally->look_at(child.socket_path);
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

namespace {

// lingerd's socket may exist, but not where a httpd in a ChrootDir looks for it.
bool warn_of_chroot(const Child& child, int error) {
  const char* root = ap_unixd_config.chroot_dir;
  if (root == nullptr || (error != ENOENT && error != ENOTDIR)) return false;
  const char* path = child.socket_path;
  ap_log_error(APLOG_MARK, APLOG_WARNING, 0, child.main_server,
               "lingerd is down: there is no %s inside of ChrootDir %s (%s). Apache lingers itself "
               "until there is. Start lingerd with --socket %s%s, or mount its directory there",
               path, root, std::strerror(error), root, path);
  return true;
}

}  // namespace

void announce(Obstacle obstacle, int error, std::uint64_t now_ns) {
  const Child& child = this_child();
  if (child.tally == nullptr || !child.tally->found(obstacle, child.place, now_ns)) return;
  const char* warning = words_of(obstacle).warning;
  if (warning == nullptr) return;
  if (obstacle == Obstacle::kDown && warn_of_chroot(child, error)) return;
  const char* reason = error != 0 ? std::strerror(error) : "it said so";
  char version[12] = {};
  if (obstacle == Obstacle::kOtherVersion) {
    std::snprintf(version, sizeof version, "%u", static_cast<unsigned>(kRecordVersion));
    reason = version;
  }
  ap_log_error(APLOG_MARK, APLOG_WARNING, 0, child.main_server, warning, child.socket_path, reason);
}

bool mpm_is_async() {
  static const bool kIs = [] {
    int result = AP_MPMQ_NOT_SUPPORTED;
    return ap_mpm_query(AP_MPMQ_IS_ASYNC, &result) == APR_SUCCESS && result != 0;
  }();
  return kIs;
}

const char* stats_path() {
  return this_child().stats_path;
}

void log_back(const Tally::Change& change) {
  const Child& child = this_child();
  ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, child.main_server,
               "lingerd is back at %s; %" APR_UINT64_T_FMT " connections fell back meanwhile",
               child.socket_path, static_cast<apr_uint64_t>(change.fallbacks));
}

}  // namespace lingerd
