// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/feature.h"

#include <httpd.h>  // before the others, which need it

#include <http_config.h>
#include <http_core.h>
#include <http_log.h>

#include "mod_linger_tls/client_rules.h"
#include "mod_linger_tls/connection.h"
#include "mod_linger_tls/libraries.h"
#include "mod_linger_tls/module.h"
#include "mod_linger_tls/parking.h"
#include "mod_linger_tls/settings.h"
#include "mod_linger_tls/shared.h"

namespace lingerd::tls {
namespace {

bool wanted = false;
const LingerSide* side = nullptr;

void say_without_effect(server_rec* server, const char* why) {
  ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, server, "LingerKeepAliveTLS has no effect: %s", why);
}

bool is_first_reading() {
  return ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG;
}

}  // namespace

int prepare(apr_pool_t*, apr_pool_t*, apr_pool_t* temp_pool, server_rec* server) {
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
  if (!prepare_connections()) {
    if (any) say_without_effect(server, "mod_ssl or OpenSSL has no place for it");
    return OK;
  }
  if (!prepare_stays(server)) return OK;
  learn_client_rules(temp_pool);
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

}  // namespace lingerd::tls
