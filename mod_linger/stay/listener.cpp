// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/listener.h"

#include <ap_listen.h>
#include <apr_portable.h>
#include <apr_strings.h>
#include <fcntl.h>
#include <http_config.h>
#include <http_core.h>
#include <http_log.h>
#include <http_main.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <unixd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "base/unique_fd.h"
#include "mod_linger/child.h"
#include "mod_linger/module.h"
#include "mod_linger/stay/features.h"
#include "mod_linger/stay/listener_socket.h"

namespace lingerd {
namespace {

// The listener outlives configurations: parked connections come back to it across restarts. The
// record and all that it points to come from the process's pool (httpd still looks at the records
// of the configuration before, when its pool is gone), and there are two of each, used in turn.
struct Retained {
  ap_listen_rec* record = nullptr;  // of the configuration before, or of this one
  apr_pool_t* pools[2] = {};
  unsigned turn = 0;
  int name = -1;  // O_PATH
  bool has_key = false;
  ReturnKey key{};
  char* directory = nullptr;
  pid_t made_by = 0;
  char declined[512] = {};  // why, as it was said last
};

std::string problem;        // of this configuration
int name_fd = -1;           // as retained, where children look
std::string listener_path;  // as far as a socket's name goes
const ReturnKey* key = nullptr;

Retained& retained() {
  static const char* const kKey = "mod_linger return listener 2";
  auto* known = static_cast<Retained*>(ap_retained_data_get(kKey));
  // ap_retained_data_create keeps the key's pointer, and this module may be unloaded.
  if (known == nullptr) {
    known = new (ap_retained_data_create(apr_pstrdup(ap_server_conf->process->pool, kKey),
                                         sizeof(Retained))) Retained;
  }
  return *known;
}

int listen_cores_ratio() {
  int ratio = 0;
  for (const ap_directive_t* each = ap_conftree; each != nullptr; each = each->next) {
    if (strcasecmp(each->directive, "ListenCoresBucketsRatio") == 0) ratio = std::atoi(each->args);
  }
  return ratio;
}

// With ListenCoresBucketsRatio httpd makes its listeners again for each bucket of children, by name
// and as TCP sockets: ours would make it fail.
bool several_buckets() {
#if AP_MODULE_MAGIC_AT_LEAST(20120211, 68)
  const auto* mpm = ap_unixd_mpm_get_retained_data();
  if (mpm != nullptr && mpm->num_buckets > 1 && mpm->was_graceful) return true;
#endif
  const int ratio = listen_cores_ratio();
  return ratio > 0 && sysconf(_SC_NPROCESSORS_ONLN) / ratio > 1;
}

constexpr char kWaitsItself[] = "this MPM lets idle connections wait without a worker itself";

const char* why_not(const Features& features) {
  if (mpm_is_async() && !features.request) return kWaitsItself;
#if !APR_HAVE_SOCKADDR_UN
  return "this APR doesn't know Unix sockets; it takes 1.6 or newer";
#endif
  if (!has_tags()) return "this APR-util has no SipHash; it takes 1.6 or newer";
  if (!cookie_of(UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)).get())) {
    return "this kernel doesn't number its sockets; it takes Linux 4.12 or newer";
  }
  if (several_buckets()) return "it doesn't go together with ListenCoresBucketsRatio";
  return nullptr;
}

#if APR_HAVE_SOCKADDR_UN

apr_sockaddr_t* address_of(apr_pool_t* pool, const char* path) {
  auto* address = static_cast<apr_sockaddr_t*>(apr_pcalloc(pool, sizeof(apr_sockaddr_t)));
  address->pool = pool;
  address->hostname = apr_pstrdup(pool, path);
  address->family = APR_UNIX;
  address->sa.unx.sun_family = APR_UNIX;
  apr_cpystrn(address->sa.unx.sun_path, path, sizeof address->sa.unx.sun_path);
  address->salen = sizeof address->sa.unx;
  address->ipaddr_ptr = &address->sa.unx.sun_path;
  address->ipaddr_len = address->addr_str_len = sizeof address->sa.unx.sun_path;
  return address;
}

// A record for a descriptor, which it takes over. The names that httpd would compare with those of
// its TCP listeners match none: no port, a family of its own, a protocol without an accept filter.
ap_listen_rec* record_for(apr_pool_t* pool, UniqueFd fd, const char* path) {
  apr_sockaddr_t* address = address_of(pool, path);
  int raw = fd.get();
  apr_os_sock_info_t info{};
  info.os_sock = &raw;
  info.local = reinterpret_cast<sockaddr*>(&address->sa.unx);
  info.family = APR_UNIX;
  info.type = SOCK_STREAM;
  apr_socket_t* socket = nullptr;
  if (apr_os_sock_make(&socket, &info, pool) != APR_SUCCESS) return nullptr;
  (void)fd.release();
  // Newer httpds have longer records than the one that this was compiled for.
  constexpr std::size_t kRoomForNewer = 64;
  auto* record =
      static_cast<ap_listen_rec*>(apr_pcalloc(pool, sizeof(ap_listen_rec) + kRoomForNewer));
  record->sd = socket;
  record->bind_addr = address;
  record->active = 1;
  record->protocol = apr_pstrdup(pool, "lingerd");
  return record;
}

// The file goes with httpd, not with a configuration.
apr_status_t remove_when_exiting(void*) {
  const Retained& kept = retained();
  int state = 0;
#ifdef AP_SQ_MS_EXITING
  state = ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_EXITING;
#endif
  if (state != 0 && kept.directory != nullptr && kept.made_by == getpid()) {
    remove_return_listener(kept.directory);
  }
  return APR_SUCCESS;
}

// The socket that listens: of the configuration before, as long as that one's record is open, which
// the MPM closes after us; or a new one.
UniqueFd listening_socket(server_rec* server, Retained& kept) {
  apr_os_sock_t before = -1;
  if (kept.record != nullptr && kept.record->active != 0 &&
      apr_os_sock_get(&before, kept.record->sd) == APR_SUCCESS && before >= 0) {
    return UniqueFd(fcntl(before, F_DUPFD_CLOEXEC, 3));
  }
  apr_pool_t* pool = server->process->pool;
  const char* directory = ap_runtime_dir_relative(pool, "");
  ReturnListener made;
  if (directory == nullptr) {
    problem = "DefaultRuntimeDir is no path";
    return {};
  }
  std::string path = directory;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (!make_return_listener(path, getpid(), made, problem)) return {};
  kept.directory = apr_pstrdup(pool, made.directory.c_str());
  kept.made_by = getpid();
  if (kept.name >= 0) close(kept.name);
  kept.name = made.name.release();
  return std::move(made.socket);
}

bool make_key(Retained& kept) {
  if (kept.has_key) return true;
  const apr_status_t status = apr_generate_random_bytes(kept.key.data(), kept.key.size());
  if (status != APR_SUCCESS) {
    problem = "the system gives no random bytes: " + std::string(std::strerror(status));
    return false;
  }
  kept.has_key = true;
  return true;
}

void add_listener(server_rec* server, Retained& kept) {
  if (!make_key(kept)) return;
  UniqueFd socket = listening_socket(server, kept);
  if (!socket) return;
  apr_pool_t*& pool = kept.pools[kept.turn++ % 2];
  if (pool != nullptr) apr_pool_destroy(pool);
  apr_pool_create(&pool, server->process->pool);
  const std::string path = std::string(kept.directory) + "/return.sock";
  ap_listen_rec* record = record_for(pool, std::move(socket), path.c_str());
  if (record == nullptr) return;
  ap_listen_rec** last = &ap_listeners;
  while (*last != nullptr) last = &(*last)->next;
  *last = record;
  kept.record = record;
  name_fd = kept.name;
  key = &kept.key;
  listener_path = record->bind_addr->sa.unx.sun_path;
}

#else

apr_status_t remove_when_exiting(void*) {
  return APR_SUCCESS;
}
void add_listener(server_rec*, Retained&) {}

#endif

}  // namespace

int open_listener(apr_pool_t* config_pool, apr_pool_t*, apr_pool_t*, server_rec* server) {
  problem.clear();
  name_fd = -1;
  key = nullptr;
  // The first of two readings of the configuration at the start only checks it.
  if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG) return OK;
  if (ap_listeners == nullptr) return OK;  // httpd won't start
  Retained& kept = retained();
  // What has been parked comes back even if it wouldn't be parked any more.
  const bool was_there = kept.record != nullptr;
  const Features features = features_of(server);
  if (!features.any() && !was_there) return OK;
  if (const char* reason = why_not(features)) {
    problem = reason;
    kept.record = nullptr;
    return OK;
  }
  add_listener(server, kept);
  if (name_fd < 0) kept.record = nullptr;
  apr_pool_cleanup_register(config_pool, nullptr, remove_when_exiting, apr_pool_cleanup_null);
  return OK;
}

void announce_listener(server_rec* server) {
  Features features = features_of(server);
  if (!features.any()) return;
  std::string what = problem;
  if (what.empty() && features.keep_alive && mpm_is_async()) {
    what = kWaitsItself;
    features.request = false;
  }
  Retained& kept = retained();
  if (std::string_view(what).substr(0, sizeof kept.declined - 1) == kept.declined) return;
  apr_cpystrn(kept.declined, what.c_str(), sizeof kept.declined);
  if (what.empty()) return;
  ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, server, "%s no effect: %s", features.have(),
               what.c_str());
}

// With httpd -X the parent is the only child, and ends as one: without ending its configuration.
void look_after_listener(apr_pool_t* child_pool, server_rec*) {
  if (way_back() < 0 || retained().made_by != getpid()) return;
  apr_pool_cleanup_register(
      child_pool, retained().directory,
      [](void* directory) -> apr_status_t {
        remove_return_listener(static_cast<const char*>(directory));
        return APR_SUCCESS;
      },
      apr_pool_cleanup_null);
}

const ReturnKey* return_key() {
  return key;
}

int way_back() {
  return name_fd;
}

bool is_listeners_path(const char* path) {
  return listener_path == path;
}

}  // namespace lingerd
