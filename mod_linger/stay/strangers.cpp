// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/strangers.h"

#include <httpd.h>  // before the others, which need it

#include <apr_network_io.h>
#include <apr_tables.h>
#include <http_config.h>
#include <http_core.h>
#include <http_protocol.h>
#include <util_filter.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "contract/record.h"
#include "mod_linger/stay/over_tls.h"
#include "mod_linger/tls/parking.h"

namespace lingerd {
namespace {

// Modules whose entry in conn_config means nothing from one request to the next: mod_logio counts
// the bytes of one, mod_reqtimeout starts again with each and asks the keep-alive count, event has
// the connection's state there.
constexpr std::array<std::string_view, 6> kKnownModules{
    "core.c", "http_core.c", "event.c", "mod_logio.c", "mod_reqtimeout.c", "mod_so.c"};

// The same for filters, in the chains of the connection: names as httpd keeps them, in lower case.
constexpr std::array<std::string_view, 9> kKnownFilters{
    "core_in",          "core",      "linger_park", "linger_request", "linger_offload",
    "log_input_output", "dumpio_in", "dumpio_out",  "reqtimeout"};

// Loaded modules that aren't among them: const module*.
apr_array_header_t* strangers = nullptr;

// And of mod_ssl's connections that linger_tls_module knows, which takes the state of these along.
constexpr std::string_view kSslModule = "mod_ssl.c";
constexpr std::array<std::string_view, 4> kSslFilters{"ssl/tls filter", "ssl/tls coalescing filter",
                                                      "linger_tls", "linger_past_tls"};

const char* unknown_in(const ap_filter_t* filter, bool over_tls) {
  for (; filter != nullptr; filter = filter->next) {
    const std::string_view name = filter->frec->name;
    if (std::ranges::find(kKnownFilters, name) != kKnownFilters.end()) continue;
    if (over_tls && std::ranges::find(kSslFilters, name) != kSslFilters.end()) continue;
    return filter->frec->name;
  }
  return nullptr;
}

// Whether the client is the one that the socket says: not the one that a PROXY header named.
bool is_sockets_own(conn_rec* connection) {
  apr_sockaddr_t* address = nullptr;
  return apr_socket_addr_get(&address, APR_REMOTE, ap_get_conn_socket(connection)) == APR_SUCCESS &&
         address == connection->client_addr;
}

// What httpd asks once a connection (HostnameLookups, Require host, UseCanonicalName DNS,
// IdentityCheck): after a stay it would ask again, and make requests wait for a slow name server.
bool has_looked_up(const conn_rec* connection) {
  return connection->remote_host != nullptr || connection->remote_logname != nullptr ||
         connection->local_host != nullptr || connection->double_reverse != 0;
}

}  // namespace

void learn_strangers(apr_pool_t* child_pool, server_rec*) {
  strangers = apr_array_make(child_pool, 64, sizeof(const module*));
  for (module** each = ap_loaded_modules; each != nullptr && *each != nullptr; ++each) {
    const std::string_view name = (*each)->name;
    if (name.substr(0, 10) == "mod_linger") continue;
    if (std::ranges::find(kKnownModules, name) != kKnownModules.end()) continue;
    *static_cast<const module**>(apr_array_push(strangers)) = *each;
  }
}

bool has_unknown_filter(const conn_rec* connection) {
  return unknown_in(connection->input_filters, false) != nullptr ||
         unknown_in(connection->output_filters, false) != nullptr;
}

const char* stranger_on(conn_rec* connection, RecordKind kind) {
  if (connection->master != nullptr) return "a part of another";
  if (connection->data_in_output_filters || connection->clogging_input_filters) {
    return "something unsent or unread";
  }
  if (!apr_is_empty_table(connection->notes)) return "a note";
  if (has_looked_up(connection)) return "a name that DNS or identd has given";
  if (!is_sockets_own(connection)) return "an address that isn't the socket's";
  if (std::strcmp(ap_get_protocol(connection), AP_PROTOCOL_HTTP1) != 0) return "another protocol";
  const TlsParking* tls = kind == RecordKind::kIdle ? tls_parking_of(connection) : nullptr;
  if (const char* name = unknown_in(connection->input_filters, tls != nullptr)) return name;
  if (const char* name = unknown_in(connection->output_filters, tls != nullptr)) return name;
  for (int i = 0; i < strangers->nelts; ++i) {
    const module* each = reinterpret_cast<const module* const*>(strangers->elts)[i];
    if (tls != nullptr && each->name == kSslModule) continue;
    if (ap_get_module_config(connection->conn_config, each) != nullptr) return each->name;
  }
  return tls != nullptr ? tls->objection(connection) : nullptr;
}

}  // namespace lingerd
