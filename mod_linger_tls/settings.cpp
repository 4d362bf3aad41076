// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/settings.h"

#include <httpd.h>  // before the others, which need it

#include <apr_lib.h>
#include <apr_strings.h>
#include <http_config.h>

#include <cerrno>
#include <new>
#include <string_view>

#include "mod_linger_tls/module.h"

namespace lingerd::tls {
namespace {

Settings& settings_in(cmd_parms* cmd) {
  return *static_cast<Settings*>(
      ap_get_module_config(cmd->server->module_config, &linger_tls_module));
}

const char* set_on(cmd_parms* cmd, void*, const char* value) {
  Settings& settings = settings_in(cmd);
  settings.on_given = true;
  settings.on = strcasecmp(value, "On") == 0;
  if (settings.on || strcasecmp(value, "Off") == 0) return nullptr;
  return apr_psprintf(cmd->pool, "%s: '%s' is neither On nor Off", cmd->cmd->name, value);
}

// Milliseconds, with or without their unit, as LingerKeepAliveAfter.
const char* set_after(cmd_parms* cmd, void*, const char* value) {
  constexpr apr_int64_t kMost = 1'000;
  char* end = nullptr;
  errno = 0;
  const apr_int64_t number = apr_isdigit(*value) ? apr_strtoi64(value, &end, 10) : -1;
  const std::string_view unit = end != nullptr ? end : "";
  if (errno != 0 || number < 0 || number > kMost || !(unit.empty() || unit == "ms")) {
    return apr_psprintf(cmd->pool,
                        "%s: '%s' is not a number of milliseconds from 0 to %d (the unit ms may "
                        "follow)",
                        cmd->cmd->name, value, static_cast<int>(kMost));
  }
  settings_in(cmd).after_ms = static_cast<std::uint32_t>(number);
  settings_in(cmd).after_given = true;
  return nullptr;
}

using Take1 = const char* (*)(cmd_parms*, void*, const char*);

command_rec directive(const char* name, Take1 setter, const char* help) {
  // In C++ httpd declares a setter of any signature as one without arguments; the detour by void()
  // is what compilers take for a deliberate cast.
  const auto func = reinterpret_cast<cmd_func>(reinterpret_cast<void (*)()>(setter));
  return {name, func, nullptr, RSRC_CONF, TAKE1, help};
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
