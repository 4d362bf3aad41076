// SPDX-License-Identifier: Apache-2.0
// mod_linger_tls lets mod_linger park connections of mod_ssl's: the hook list is the table of
// contents.
#include <httpd.h>  // before the others, which need it

#include <apr_optional_hooks.h>
#include <http_config.h>
#include <http_connection.h>
#include <http_protocol.h>
#include <mpm_common.h>

#include "mod_linger/guarded.h"
#include "mod_linger_tls/connection.h"
#include "mod_linger_tls/feature.h"
#include "mod_linger_tls/filters.h"
#include "mod_linger_tls/module.h"
#include "mod_linger_tls/past_ssl.h"
#include "mod_linger_tls/settings.h"
#include "mod_linger_tls/shared.h"
#include "mod_linger_tls/ssl_hooks.h"

namespace {

void register_hooks(apr_pool_t*) {
  using namespace lingerd;
  using namespace lingerd::tls;
  // Start: what is kept, and mod_linger, which parks.
  ap_hook_post_config(guarded<prepare, OK>, nullptr, nullptr, APR_HOOK_REALLY_FIRST);
  ap_hook_post_config(guarded<introduce, OK>, nullptr, nullptr, APR_HOOK_LAST);

  ap_hook_monitor(guarded<look_after_stays, DECLINED>, nullptr, nullptr, APR_HOOK_MIDDLE);

  // What mod_ssl does is followed.
  APR_OPTIONAL_HOOK(ssl, init_server, (guarded<tap_context, DECLINED>), nullptr, nullptr,
                    APR_HOOK_MIDDLE);
  APR_OPTIONAL_HOOK(ssl, pre_handshake, (guarded<meet_ssl, HTTP_INTERNAL_SERVER_ERROR>), nullptr,
                    nullptr, APR_HOOK_MIDDLE);
  register_filters();
  register_past_ssl();

  // A connection: new, or back from lingerd.
  ap_hook_pre_connection(guarded<begin_connection, HTTP_INTERNAL_SERVER_ERROR>, nullptr, nullptr,
                         APR_HOOK_REALLY_FIRST);
  ap_hook_process_connection(guarded<check_connection, DONE>, nullptr, nullptr,
                             APR_HOOK_REALLY_FIRST);
}

}  // namespace

// STANDARD20_MODULE_STUFF with another name than __FILE__: as mod_linger's.
module_struct linger_tls_module = {MODULE_MAGIC_NUMBER_MAJOR,
                                   MODULE_MAGIC_NUMBER_MINOR,
                                   -1,
                                   "mod_linger_tls.c",
                                   nullptr,
                                   nullptr,
                                   MODULE_MAGIC_COOKIE,
                                   nullptr,
                                   nullptr,  // no per-directory settings
                                   nullptr,
                                   lingerd::tls::create_settings,
                                   lingerd::tls::merge_settings,
                                   lingerd::tls::kDirectives,
                                   register_hooks
#if AP_MODULE_MAGIC_AT_LEAST(20120211, 70)
                                   ,
                                   AP_MODULE_FLAG_NONE
#endif
};
