// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/strangers.h"

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
#include <vector>

namespace lingerd {
namespace {

// Modules whose entry in conn_config means nothing from one request to the next: mod_logio counts
// the bytes of one, mod_reqtimeout starts anew with each and asks the keep-alive count.
constexpr std::array<std::string_view, 5> kKnownModules{"core.c", "http_core.c", "mod_logio.c",
                                                        "mod_reqtimeout.c", "mod_so.c"};

// The same for filters, in the chains of the connection: names as httpd keeps them, in lower case.
constexpr std::array<std::string_view, 8> kKnownFilters{
    "core_in",          "core",      "linger_park", "linger_offload",
    "log_input_output", "dumpio_in", "dumpio_out",  "reqtimeout"};

std::vector<const module*>& strangers() {
  static std::vector<const module*> modules;
  return modules;
}

const char* unknown_in(const ap_filter_t* filter) {
  for (; filter != nullptr; filter = filter->next) {
    if (std::ranges::find(kKnownFilters, std::string_view(filter->frec->name)) ==
        kKnownFilters.end()) {
      return filter->frec->name;
    }
  }
  return nullptr;
}

// Whether the client is whom the socket says: not the one that a PROXY header named.
bool is_sockets_own(conn_rec* connection) {
  apr_sockaddr_t* address = nullptr;
  return apr_socket_addr_get(&address, APR_REMOTE, ap_get_conn_socket(connection)) == APR_SUCCESS &&
         address == connection->client_addr;
}

}  // namespace

void learn_strangers(apr_pool_t*, server_rec*) {
  strangers().clear();
  for (module** each = ap_loaded_modules; each != nullptr && *each != nullptr; ++each) {
    const std::string_view name = (*each)->name;
    if (name.substr(0, 10) == "mod_linger") continue;
    if (std::ranges::find(kKnownModules, name) == kKnownModules.end()) strangers().push_back(*each);
  }
}

const char* stranger_on(conn_rec* connection) {
  if (connection->master != nullptr) return "a part of another";
  if (connection->data_in_output_filters || connection->clogging_input_filters) {
    return "something unsent or unread";
  }
  if (!apr_is_empty_table(connection->notes)) return "a note";
  if (!is_sockets_own(connection)) return "an address that isn't the socket's";
  if (std::strcmp(ap_get_protocol(connection), AP_PROTOCOL_HTTP1) != 0) return "another protocol";
  if (const char* name = unknown_in(connection->input_filters)) return name;
  if (const char* name = unknown_in(connection->output_filters)) return name;
  const auto stranger = std::ranges::find_if(strangers(), [&](const module* each) {
    return ap_get_module_config(connection->conn_config, each) != nullptr;
  });
  return stranger == strangers().end() ? nullptr : (*stranger)->name;
}

}  // namespace lingerd
