// SPDX-License-Identifier: Apache-2.0
// mod_linger hands closing connections to lingerd: the hook list is the table of contents.
#include <httpd.h>  // before the others, which need it

#include <http_connection.h>
#include <http_protocol.h>
#include <http_request.h>

#include "mod_linger/child.h"
#include "mod_linger/connection.h"
#include "mod_linger/guarded.h"
#include "mod_linger/handoff.h"
#include "mod_linger/keepalive/keepalive.h"
#include "mod_linger/module.h"
#include "mod_linger/offload/offload.h"
#include "mod_linger/request/request.h"
#include "mod_linger/settings.h"
#include "mod_linger/status.h"
#include "mod_linger/stay/hooks.h"

namespace {

void register_hooks(apr_pool_t*) {
  using namespace lingerd;
  // Start: the counters' shared memory, then each child's connection to lingerd.
  ap_hook_post_config(guarded<prepare, OK>, nullptr, nullptr, APR_HOOK_MIDDLE);
  ap_hook_child_init(guarded<start_child>, nullptr, nullptr, APR_HOOK_MIDDLE);

  // A connection: mark it, know the virtual host of its last request, note for the log what is
  // known of its end, part with it.
  ap_hook_process_connection(guarded<mark_connection, DECLINED>, nullptr, nullptr,
                             APR_HOOK_REALLY_FIRST);
  ap_hook_post_read_request(guarded<note_server, DECLINED>, nullptr, nullptr,
                            APR_HOOK_REALLY_FIRST);
  ap_hook_log_transaction(guarded<note_for_log, DECLINED>, nullptr, nullptr, APR_HOOK_REALLY_FIRST);
  ap_hook_pre_close_connection(guarded<pre_close, DECLINED>, nullptr, nullptr,
                               APR_HOOK_REALLY_FIRST);

  // The features, each with hooks of its own: the rest of a response (LingerOffload), idle
  // connections (LingerKeepAlive), requests that are still coming (LingerRequest); the last two
  // have a way back in common.
  register_offload();
  register_stays();
  register_keep_alive();
  register_request();

  // The numbers.
  hook_server_status();
  ap_hook_handler(guarded<linger_status_handler, HTTP_INTERNAL_SERVER_ERROR>, nullptr, nullptr,
                  APR_HOOK_MIDDLE);
}

}  // namespace

// STANDARD20_MODULE_STUFF with another name than __FILE__: `<IfModule mod_linger.c>` is what people
// write, whatever language a module is in, and what mod_info's list is searched for.
module_struct linger_module = {MODULE_MAGIC_NUMBER_MAJOR,
                               MODULE_MAGIC_NUMBER_MINOR,
                               -1,
                               "mod_linger.c",
                               nullptr,
                               nullptr,
                               MODULE_MAGIC_COOKIE,
                               nullptr,
                               nullptr,  // no per-directory settings
                               nullptr,
                               lingerd::create_settings,
                               lingerd::merge_settings,
                               lingerd::kDirectives,
                               register_hooks
#if AP_MODULE_MAGIC_AT_LEAST(20120211, 70)
                               ,
                               AP_MODULE_FLAG_NONE
#endif
};
