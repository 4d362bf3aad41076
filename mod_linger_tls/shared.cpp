// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/shared.h"

#include <httpd.h>  // before the others, which need it

#include <apr_shm.h>
#include <apr_strings.h>
#include <http_config.h>
#include <http_log.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.h"
#include "mod_linger_tls/module.h"

namespace lingerd::tls {
namespace {

std::optional<Stays> the_stays;

// It holds keys, and sealed states: a core has neither.
void leave_out_of_cores(void* memory, std::size_t size) {
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const std::uintptr_t before = reinterpret_cast<std::uintptr_t>(memory) % page;
  (void)madvise(static_cast<char*>(memory) - before, before + size, MADV_DONTDUMP);
}

// The size in the name makes a newer module start afresh instead of reading an older one's.
std::string retained_key() {
  return "mod_linger_tls stays " + std::to_string(sizeof(StayTable));
}

StayTable* find_table() {
  auto* known = static_cast<StayTable**>(ap_retained_data_get(retained_key().c_str()));
  return known != nullptr ? *known : nullptr;
}

StayTable* find_or_make_table(server_rec* server) {
  if (StayTable* known = find_table()) return known;
  apr_pool_t* pool = server->process->pool;
  apr_shm_t* memory = nullptr;
  const apr_status_t status = apr_shm_create(&memory, sizeof(StayTable), nullptr, pool);
  if (status != APR_SUCCESS) {
    ap_log_error(APLOG_MARK, APLOG_ERR, status, server,
                 "LingerKeepAliveTLS has no effect: no shared memory for what is kept of parked "
                 "connections");
    return nullptr;
  }
  // Fresh from the kernel it is zero, which is what it begins with; nothing is written, because an
  // untouched page costs nothing.
  auto* table = static_cast<StayTable*>(apr_shm_baseaddr_get(memory));
  leave_out_of_cores(table, sizeof(StayTable));
  *static_cast<StayTable**>(
      ap_retained_data_create(apr_pstrdup(pool, retained_key().c_str()), sizeof table)) = table;
  return table;
}

}  // namespace

bool forget_stays() {
  the_stays.reset();
  return find_table() != nullptr;
}

bool prepare_stays(server_rec* server) {
  StayTable* table = find_or_make_table(server);
  if (table == nullptr) return false;
  Stays found(*table);
  if (!found.renew_key(monotonic_ns())) {
    ap_log_error(APLOG_MARK, APLOG_ERR, 0, server,
                 "LingerKeepAliveTLS has no effect: OpenSSL gives no random bytes");
    return false;
  }
  the_stays.emplace(found);
  return true;
}

int look_after_stays(apr_pool_t*, server_rec*) {
  if (!the_stays) return DECLINED;
  const std::uint64_t now_ns = monotonic_ns();
  the_stays->wipe_expired(now_ns);
  (void)the_stays->renew_key(now_ns);
  return DECLINED;
}

Stays* stays() {
  return the_stays ? &*the_stays : nullptr;
}

}  // namespace lingerd::tls
