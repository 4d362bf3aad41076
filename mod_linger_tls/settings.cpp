// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/settings.h"

#include <httpd.h>  // before the others, which need it

#include <http_config.h>

#include <cstdint>
#include <new>

#include "mod_linger/directive.h"
#include "mod_linger_tls/module.h"

namespace lingerd::tls {
namespace {

Settings& settings_in(cmd_parms* cmd) {
  return *static_cast<Settings*>(
      ap_get_module_config(cmd->server->module_config, &linger_tls_module));
}

const char* set_on(cmd_parms* cmd, void*, const char* value) {
  settings_in(cmd).on_given = true;
  return parse_switch(cmd, value, settings_in(cmd).on);
}

const char* set_after(cmd_parms* cmd, void*, const char* value) {
  settings_in(cmd).after_given = true;
  return parse_wait(cmd, value, settings_in(cmd).after_ms);
}

}  // namespace

const command_rec kDirectives[] = {
    directive("LingerKeepAliveTLS", set_on,
              "On: idle keep-alive connections over TLS 1.3 wait in lingerd as well, where "
              "LingerKeepAlive is On; Off (default)"),
    directive("LingerKeepAliveTLSAfter", set_after,
              "milliseconds that a worker waits itself first, 0 to 1000 (default 20)"),
    command_rec{}};

void* create_settings(apr_pool_t* pool, server_rec*) {
  return new (apr_palloc(pool, sizeof(Settings))) Settings;
}

void* merge_settings(apr_pool_t* pool, void* base, void* added) {
  auto* merged = new (apr_palloc(pool, sizeof(Settings))) Settings(*static_cast<Settings*>(base));
  const auto& over = *static_cast<Settings*>(added);
  if (over.on_given) merged->on = over.on;
  if (over.after_given) merged->after_ms = over.after_ms;
  return merged;
}

const Settings& settings_of(const server_rec* server) {
  return *static_cast<Settings*>(ap_get_module_config(server->module_config, &linger_tls_module));
}

bool is_wanted(const server_rec* servers) {
  for (const server_rec* server = servers; server != nullptr; server = server->next) {
    if (settings_of(server).on) return true;
  }
  return false;
}

}  // namespace lingerd::tls
