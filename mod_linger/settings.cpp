// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/settings.h"

#include <httpd.h>  // before the others, which need it

#include <apr_lib.h>
#include <apr_strings.h>
#include <http_core.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <string_view>

#include "base/unix_limits.h"
#include "contract/record.h"
#include "mod_linger/directive.h"
#include "mod_linger/module.h"

namespace lingerd {
namespace {

Settings& settings_in(cmd_parms* cmd) {
  return *static_cast<Settings*>(ap_get_module_config(cmd->server->module_config, &linger_module));
}

const char* set_enabled(cmd_parms* cmd, void*, const char* value) {
  settings_in(cmd).given.enabled = true;
  return parse_switch(cmd, value, settings_in(cmd).enabled);
}

const char* set_offload(cmd_parms* cmd, void*, const char* value) {
  settings_in(cmd).given.offload = true;
  return parse_switch(cmd, value, settings_in(cmd).offload);
}

const char* set_offload_files(cmd_parms* cmd, void*, const char* value) {
  settings_in(cmd).given.offload_files = true;
  return parse_switch(cmd, value, settings_in(cmd).offload_files);
}

// A number of bytes, or with one of the units K, M, G.
const char* parse_size(cmd_parms* cmd, const char* value, const char* also, std::uint64_t& bytes) {
  constexpr apr_int64_t kMost = apr_int64_t{1} << 40;
  char* end = nullptr;
  errno = 0;
  apr_int64_t number = apr_isdigit(*value) ? apr_strtoi64(value, &end, 10) : 0;
  int shift = 0;
  if (end != nullptr && *end != '\0') {
    constexpr std::string_view kUnits = "KMG";
    const auto unit = kUnits.find(static_cast<char>(apr_toupper(*end)));
    shift = unit != kUnits.npos && end[1] == '\0' ? static_cast<int>(unit + 1) * 10 : -1;
  }
  if (errno != 0 || number < 1 || shift < 0 || number > (kMost >> shift)) {
    return apr_psprintf(cmd->pool,
                        "%s: '%s' is not a size from 1 to 1024G (a number of bytes, or with one of "
                        "the units K, M, G)%s",
                        cmd->cmd->name, value, also);
  }
  bytes = static_cast<std::uint64_t>(number) << shift;
  return nullptr;
}

const char* set_offload_max(cmd_parms* cmd, void*, const char* value) {
  settings_in(cmd).given.offload_max = true;
  return parse_size(cmd, value, "", settings_in(cmd).offload_max);
}

const char* set_offload_close(cmd_parms* cmd, void*, const char* value) {
  settings_in(cmd).given.offload_close = true;
  settings_in(cmd).offload_close = 0;
  if (strcasecmp(value, "Off") == 0) return nullptr;
  return parse_size(cmd, value, " nor Off", settings_in(cmd).offload_close);
}

// httpd's own parser takes anything behind the unit's first letters ("5sec", "5 s").
bool has_known_unit(const char* value) {
  while (apr_isdigit(*value)) ++value;
  const std::string_view unit = value;
  return unit.empty() || unit == "ms" || unit == "s" || unit == "min" || unit == "h";
}

const char* parse_duration(cmd_parms* cmd, const char* value, std::uint32_t& ms) {
  apr_interval_time_t parsed = 0;
  const bool good = apr_isdigit(*value) && has_known_unit(value) &&
                    ap_timeout_parameter_parse(value, &parsed, "s") == APR_SUCCESS &&
                    parsed >= apr_time_from_msec(1) && parsed <= apr_time_from_msec(kMaxDurationMs);
  if (!good) {
    return apr_psprintf(cmd->pool,
                        "%s: '%s' is not a duration from 1ms to %us (a number of seconds, or with "
                        "one of the units ms, s, min, h)",
                        cmd->cmd->name, value, kMaxDurationMs / 1000);
  }
  ms = static_cast<std::uint32_t>(apr_time_as_msec(parsed));
  return nullptr;
}

const char* set_idle(cmd_parms* cmd, void*, const char* value) {
  settings_in(cmd).given.idle_ms = true;
  return parse_duration(cmd, value, settings_in(cmd).idle_ms);
}

const char* set_cap(cmd_parms* cmd, void*, const char* value) {
  settings_in(cmd).given.cap_ms = true;
  return parse_duration(cmd, value, settings_in(cmd).cap_ms);
}

const char* set_offload_timeout(cmd_parms* cmd, void*, const char* value) {
  settings_in(cmd).given.offload_stall_ms = true;
  return parse_duration(cmd, value, settings_in(cmd).offload_stall_ms);
}

const char* set_keep_alive(cmd_parms* cmd, void*, const char* value) {
  settings_in(cmd).given.keep_alive = true;
  return parse_switch(cmd, value, settings_in(cmd).keep_alive);
}

const char* set_request(cmd_parms* cmd, void*, const char* value) {
  settings_in(cmd).given.request = true;
  return parse_switch(cmd, value, settings_in(cmd).request);
}

const char* set_request_body(cmd_parms* cmd, void*, const char* value) {
  settings_in(cmd).given.request_body = true;
  settings_in(cmd).request_body = 0;
  if (strcasecmp(value, "Off") == 0) return nullptr;
  return parse_size(cmd, value, " nor Off", settings_in(cmd).request_body);
}

const char* set_request_timeout(cmd_parms* cmd, void*, const char* value) {
  settings_in(cmd).given.request_timeout_ms = true;
  return parse_duration(cmd, value, settings_in(cmd).request_timeout_ms);
}

const char* set_request_min_rate(cmd_parms* cmd, void*, const char* value) {
  settings_in(cmd).given.request_min_rate = true;
  return parse_size(cmd, value, "", settings_in(cmd).request_min_rate);
}

const char* set_keep_alive_after(cmd_parms* cmd, void*, const char* value) {
  settings_in(cmd).given.keep_alive_after_ms = true;
  return parse_wait(cmd, value, settings_in(cmd).keep_alive_after_ms);
}

// A module's name is its source file's: httpd -M says "x_module", <IfModule> takes "mod_x.c", as we
// do.
const char* add_keep_alive_trust(cmd_parms* cmd, void*, const char* value) {
  if (const char* problem = ap_check_cmd_context(cmd, GLOBAL_ONLY)) return problem;
  const std::string_view name = value;
  if (name.size() < 3 || name[name.size() - 2] != '.') {
    return apr_psprintf(cmd->pool,
                        "LingerKeepAliveTrust: '%s' is not a module's source file, as in "
                        "<IfModule>: mod_example.c",
                        value);
  }
  apr_array_header_t*& trusted = settings_in(cmd).keep_alive_trust;
  if (trusted == nullptr) trusted = apr_array_make(cmd->pool, 2, sizeof(char*));
  *static_cast<const char**>(apr_array_push(trusted)) = value;
  return nullptr;
}

const char* set_fallback(cmd_parms* cmd, void*, const char* value) {
  const bool close = strcasecmp(value, "close") == 0;
  if (!close && strcasecmp(value, "inline") != 0) {
    return apr_psprintf(cmd->pool, "LingerFallback: '%s' is neither inline nor close", value);
  }
  settings_in(cmd).fallback = close ? Fallback::kClose : Fallback::kInline;
  settings_in(cmd).given.fallback = true;
  return nullptr;
}

const char* set_socket(cmd_parms* cmd, void*, const char* value) {
  if (const char* problem = ap_check_cmd_context(cmd, GLOBAL_ONLY)) return problem;
  const char* path = *value != '\0' ? ap_server_root_relative(cmd->pool, value) : nullptr;
  if (path == nullptr || std::strlen(path) > kMaxSocketPath) {
    return apr_psprintf(cmd->pool,
                        "LingerSocket: '%s' is not a path of 1 to %d bytes, the longest that a "
                        "Unix socket can have",
                        value, static_cast<int>(kMaxSocketPath));
  }
  settings_in(cmd).socket_path = path;
  settings_in(cmd).given.socket_path = true;
  return nullptr;
}

}  // namespace

const command_rec kDirectives[] = {
    directive("Linger", set_enabled,
              "On (default): lingerd finishes closing connections; Off: Apache does"),
    directive("LingerSocket", set_socket, "path of lingerd's socket"),
    directive("LingerTimeout", set_idle,
              "seconds of silence after which a linger ends, 1ms to 3600s (default 5)"),
    directive("LingerTime", set_cap, "seconds that a linger may last, 1ms to 3600s (default 30)"),
    directive("LingerFallback", set_fallback,
              "what happens when lingerd can't take a socket: inline (default) or close"),
    directive("LingerOffload", set_offload,
              "On: the unsent rest of a connection's last response goes to lingerd; Off (default)"),
    directive(
        "LingerOffloadFiles", set_offload_files,
        "On (default): lingerd gets the open file that a response comes from; Off: files travel "
        "as bytes, and none keeps its file system busy"),
    directive("LingerOffloadMax", set_offload_max,
              "most memory for the unsent rest of one response, 1 to 1024G (default 64M)"),
    directive("LingerOffloadClose", set_offload_close,
              "responses larger than this get Connection: close, so that they can go to lingerd; "
              "Off (default)"),
    directive("LingerOffloadTimeout", set_offload_timeout,
              "seconds without progress after which a delivery ends (default: Timeout)"),
    directive("LingerKeepAlive", set_keep_alive,
              "On: idle keep-alive connections wait in lingerd for their next request; Off "
              "(default)"),
    directive("LingerKeepAliveAfter", set_keep_alive_after,
              "milliseconds that a worker waits itself first, 0 to 1000 (default 5)"),
    directive("LingerKeepAliveTrust", add_keep_alive_trust,
              "modules (mod_example.c) whose connection hooks may run again with each return",
              ITERATE),
    directive(
        "LingerRequest", set_request,
        "On: a request that is still coming waits in lingerd, not in a worker; Off (default)"),
    directive("LingerRequestBody", set_request_body,
              "largest request body that is waited for there, 1 to 1024G, or Off (default 1M)"),
    directive("LingerRequestTimeout", set_request_timeout,
              "seconds for a whole request head, and a body's grace before LingerRequestMinRate, "
              "1ms to 3600s (default 20)"),
    directive("LingerRequestMinRate", set_request_min_rate,
              "bytes a second that a body must bring after that, 1 to 1024G (default 500)"),
    command_rec{}};

void* create_settings(apr_pool_t* pool, server_rec*) {
  return new (apr_palloc(pool, sizeof(Settings))) Settings;
}

void* merge_settings(apr_pool_t* pool, void* base, void* added) {
  auto* merged = new (apr_palloc(pool, sizeof(Settings))) Settings(*static_cast<Settings*>(base));
  const auto& over = *static_cast<Settings*>(added);
  if (over.given.enabled) merged->enabled = over.enabled;
  if (over.given.idle_ms) merged->idle_ms = over.idle_ms;
  if (over.given.cap_ms) merged->cap_ms = over.cap_ms;
  if (over.given.fallback) merged->fallback = over.fallback;
  if (over.given.offload) merged->offload = over.offload;
  if (over.given.offload_files) merged->offload_files = over.offload_files;
  if (over.given.offload_max) merged->offload_max = over.offload_max;
  if (over.given.offload_close) merged->offload_close = over.offload_close;
  if (over.given.offload_stall_ms) merged->offload_stall_ms = over.offload_stall_ms;
  if (over.given.keep_alive) merged->keep_alive = over.keep_alive;
  if (over.given.keep_alive_after_ms) merged->keep_alive_after_ms = over.keep_alive_after_ms;
  if (over.given.request) merged->request = over.request;
  if (over.given.request_body) merged->request_body = over.request_body;
  if (over.given.request_timeout_ms) merged->request_timeout_ms = over.request_timeout_ms;
  if (over.given.request_min_rate) merged->request_min_rate = over.request_min_rate;
  return merged;
}

const Settings& settings_of(const server_rec* server) {
  return *static_cast<Settings*>(ap_get_module_config(server->module_config, &linger_module));
}

Handoff handoff_with(const Settings& settings, std::uint64_t now_ns) {
  Handoff handoff;
  handoff.idle_ms = settings.idle_ms;
  handoff.cap_ms = settings.cap_ms;
  handoff.handed_off_ns = now_ns;
  return handoff;
}

}  // namespace lingerd
