// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/feature.h"

#include <httpd.h>  // before the others, which need it

#include <apr_strings.h>
#include <http_config.h>
#include <http_core.h>
#include <http_log.h>

#include <cstring>
#include <string_view>

#include "mod_linger_tls/connection.h"
#include "mod_linger_tls/libraries.h"
#include "mod_linger_tls/module.h"
#include "mod_linger_tls/parking.h"
#include "mod_linger_tls/settings.h"
#include "mod_linger_tls/shared.h"

namespace lingerd::tls {
namespace {

bool wanted = false;
bool asks = false;
bool asks_late = false;
const LingerSide* side = nullptr;

bool is(const char* a, const char* b) {
  return strcasecmp(a, b) == 0;
}

enum class Within { kAnything, kServer, kDirectory };

// `within` kServer: only in a section for directories, locations or files: mod_ssl then asks in
// mid-connection.
bool asks_in(const ap_directive_t* first, Within within, apr_pool_t* pool) {
  for (const ap_directive_t* each = first; each != nullptr; each = each->next) {
    const char* name = each->directive;
    if (within == Within::kAnything && is(name, "SSLVerifyClient") && !is(each->args, "none")) {
      return true;
    }
    if (within == Within::kDirectory && is(name, "SSLVerifyClient")) return true;
    // A .htaccess file, which is read with each request only, may say it.
    const char* arguments = each->args;
    while (is(name, "AllowOverride") && *arguments != '\0') {
      const char* word = ap_getword_conf(pool, &arguments);
      if (is(word, "All") || is(word, "AuthConfig")) return true;
    }
    if (is(name, "AllowOverrideList") && ap_strcasestr(each->args, "SSLVerifyClient") != nullptr) {
      return true;
    }
    const bool directory = *name == '<' && !is(name, "<VirtualHost") && !is(name, "<IfModule") &&
                           !is(name, "<IfDefine");
    const Within inner = directory && within == Within::kServer ? Within::kDirectory : within;
    if (asks_in(each->first_child, inner, pool)) return true;
  }
  return false;
}

void say_without_effect(server_rec* server, const char* why) {
  ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, server, "LingerKeepAliveTLS has no effect: %s", why);
}

bool is_first_reading() {
  return ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG;
}

}  // namespace

int prepare(apr_pool_t* config_pool, apr_pool_t*, apr_pool_t* temp_pool, server_rec* server) {
  wanted = false;
  side = nullptr;
  const bool were_there = forget_stays();
  if (is_first_reading()) return OK;
  const bool any = is_wanted(server);
  // What was parked by an earlier configuration comes back all the same.
  if (!any && !were_there) return OK;
  if (const char* problem = what_is_wrong_with_libraries()) {
    if (any) say_without_effect(server, problem);
    return OK;
  }
  if (!open_place_in_ssl(config_pool) || !prepare_stays(server)) return OK;
  asks = asks_in(ap_conftree, Within::kAnything, temp_pool);
  asks_late = asks_in(ap_conftree, Within::kServer, temp_pool);
  wanted = any;
  return OK;
}

int introduce(apr_pool_t*, apr_pool_t*, apr_pool_t*, server_rec* server) {
  if (stays() == nullptr) return OK;
  const auto known = APR_RETRIEVE_OPTIONAL_FN(linger_tls_parking_1);
  if (known == nullptr) {
    if (wanted) say_without_effect(server, "mod_linger isn't loaded, or of another version");
    wanted = false;
    return OK;
  }
  side = known(&parking());
  return OK;
}

bool feature_is_wanted() {
  return wanted;
}

bool feature_is_on() {
  return wanted && side != nullptr && side->may_be_parked();
}

const LingerSide* linger_side() {
  return side;
}

bool may_verify_clients() {
  return asks;
}

bool may_ask_for_certificate() {
  return asks_late;
}

}  // namespace lingerd::tls
