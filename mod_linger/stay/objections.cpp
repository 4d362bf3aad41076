// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/objections.h"

#include <httpd.h>  // before the others, which need it

#include <apr_strings.h>
#include <apr_tables.h>
#include <http_config.h>
#include <http_connection.h>
#include <http_log.h>
#include <http_protocol.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "mod_linger/child.h"
#include "mod_linger/module.h"
#include "mod_linger/settings.h"
#include "mod_linger/stay/features.h"
#include "mod_linger/stay/listener.h"

namespace lingerd {
namespace {

bool objections = false;  // of this configuration

// Modules whose connection hooks may run again, each looked at in its source; docs/modules.md says
// what it does there. Some keep all connections that they touch: strangers.cpp sees that.
constexpr std::array<std::string_view, 17> kHarmless{
    "core.c",      "http_core.c", "prefork.c",        "worker.c",       "event.c",
    "mod_unixd.c", "mod_logio.c", "mod_reqtimeout.c", "mod_remoteip.c", "mod_dumpio.c",
    "mod_ssl.c",   "mod_http2.c", "mod_echo.c",       "mpm_itk.c",      "mod_security2.c",
    "mod_perl.c",  "mod_python.c"};

// Modules without such hooks that keep what they know of a connection where nobody can see it
// (apr_pool_userdata).
constexpr std::array<std::string_view, 1> kKeepOutOfSight{"mod_auth_ntlm_winbind.c"};

// Directives that make a module count connections or keep something on them.
struct Condition {
  std::string_view directive;
  bool (*objects)(std::string_view argument);
};

bool always(std::string_view) {
  return true;
}

bool is_connection(std::string_view argument) {
  return argument == "conn" || argument == "connection";
}

constexpr std::array<Condition, 9> kConditions{{{"SecConnReadStateLimit", always},
                                                {"SecReadStateLimit", always},
                                                {"SecConnWriteStateLimit", always},
                                                {"SecWriteStateLimit", always},
                                                {"PerlPreConnectionHandler", always},
                                                {"PerlProcessConnectionHandler", always},
                                                {"PerlInterpScope", is_connection},
                                                {"PythonConnectionHandler", always},
                                                {"LuaScope", is_connection}}};

bool is(const char* a, std::string_view b) {
  return strncasecmp(a, b.data(), b.size()) == 0 && a[b.size()] == '\0';
}

const ap_directive_t* found_in(const ap_directive_t* first, apr_pool_t* pool,
                               bool (*matches)(const ap_directive_t*, const char* argument)) {
  for (const ap_directive_t* each = first; each != nullptr; each = each->next) {
    const char* arguments = each->args;
    if (matches(each, ap_getword_conf(pool, &arguments))) return each;
    if (const ap_directive_t* inner = found_in(each->first_child, pool, matches)) return inner;
  }
  return nullptr;
}

bool sets_a_condition(const ap_directive_t* directive, const char* argument) {
  return std::ranges::any_of(kConditions, [&](const Condition& condition) {
    return is(directive->directive, condition.directive) && condition.objects(argument);
  });
}

// .htaccess, where LuaScope may stand as well, is read with each request only.
bool lets_htaccess_speak(const ap_directive_t* directive, const char* argument) {
  return is(directive->directive, "AllowOverrideList")
             ? !is(argument, "None")
             : is(directive->directive, "AllowOverride") && !is(argument, "None");
}

const module* loaded(std::string_view name) {
  for (module** each = ap_loaded_modules; each != nullptr && *each != nullptr; ++each) {
    if (name == (*each)->name) return *each;
  }
  return nullptr;
}

bool bears_returns(const char* name, const Settings& settings) {
  const std::string_view module = name;
  if (module.starts_with("mod_linger")) return true;
  const apr_array_header_t* trusted = settings.keep_alive_trust;
  return std::ranges::find(kHarmless, module) != kHarmless.end() ||
         (trusted != nullptr && ap_array_str_contains(trusted, name));
}

// The first module on a hook that isn't known. `Link` is httpd's record of a hook's function; its
// name is that of the module that hooks it.
template <typename Link>
const char* unknown_on(const apr_array_header_t* hooks, const Settings& settings) {
  for (int i = 0; hooks != nullptr && i < hooks->nelts; ++i) {
    const char* name = reinterpret_cast<const Link*>(hooks->elts)[i].szName;
    if (name != nullptr && !bears_returns(name, settings)) return name;
  }
  return nullptr;
}

struct Objection {
  const char* text = nullptr;
  const char* module = nullptr;  // that LingerKeepAliveTrust may name
};

Objection hooked(const char* module, const char* hook, apr_pool_t* pool) {
  return {
      apr_psprintf(pool, "%s has a %s hook, which would run again with each return", module, hook),
      module};
}

Objection objection_of_hooks(const Settings& settings, apr_pool_t* pool) {
  if (const char* name =
          unknown_on<ap_LINK_create_connection_t>(ap_hook_get_create_connection(), settings)) {
    return hooked(name, "create_connection", pool);
  }
  if (const char* name =
          unknown_on<ap_LINK_pre_connection_t>(ap_hook_get_pre_connection(), settings)) {
    return hooked(name, "pre_connection", pool);
  }
  if (const char* name =
          unknown_on<ap_LINK_process_connection_t>(ap_hook_get_process_connection(), settings)) {
    return hooked(name, "process_connection", pool);
  }
  if (const char* name = unknown_on<ap_LINK_pre_close_connection_t>(
          ap_hook_get_pre_close_connection(), settings)) {
    return hooked(name, "pre_close_connection", pool);
  }
  return {};
}

Objection first_objection(server_rec* server, apr_pool_t* pool) {
  const Settings& settings = settings_of(server);
  for (const std::string_view name : kKeepOutOfSight) {
    const module* module = loaded(name);
    if (module != nullptr && !bears_returns(module->name, settings)) {
      return {apr_pstrcat(pool, module->name, " keeps something on connections", nullptr),
              module->name};
    }
  }
  if (const ap_directive_t* directive = found_in(ap_conftree, pool, sets_a_condition)) {
    return {apr_psprintf(
        pool, "%s %s (line %d of %s) counts connections or keeps something on them",
        directive->directive, directive->args, directive->line_num, directive->filename)};
  }
  const module* lua = loaded("mod_lua.c");
  if (lua != nullptr && !bears_returns(lua->name, settings) &&
      found_in(ap_conftree, pool, lets_htaccess_speak) != nullptr) {
    return {"AllowOverride lets a .htaccess file set mod_lua's LuaScope to conn", lua->name};
  }
  return objection_of_hooks(settings, pool);
}

}  // namespace

void learn_objections(apr_pool_t* temp_pool, server_rec* server) {
  objections = false;
  const Features features = features_of(server);
  if (way_back() < 0 || !features.any()) return;
  const Objection objection = first_objection(server, temp_pool);
  if (objection.text == nullptr) return;
  objections = true;
  const char* remedy =
      objection.module != nullptr
          ? apr_pstrcat(temp_pool,
                        "; if that counts nothing and keeps nothing, say LingerKeepAliveTrust ",
                        objection.module, nullptr)
          : "; take it out";
  ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, server,
               "%s no effect: %s, and a %s is a new one when it comes back%s; or set %s Off",
               features.have(), objection.text,
               features.keep_alive ? "parked connection" : "connection with a gathered request",
               remedy, features.keep_alive ? "LingerKeepAlive" : "LingerRequest");
}

bool may_stay() {
  return way_back() >= 0 && !objections;
}

bool may_be_parked() {
  return !mpm_is_async() && may_stay();
}

}  // namespace lingerd
