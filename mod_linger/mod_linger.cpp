// SPDX-License-Identifier: Apache-2.0
// mod_linger hands closing connections to lingerd: the hook list is the table of contents.
#include <httpd.h>  // before the others, which need it

#include <http_connection.h>
#include <http_protocol.h>
#include <http_request.h>

#include "mod_linger/child.h"
#include "mod_linger/connection.h"
#include "mod_linger/handoff.h"
#include "mod_linger/module.h"
#include "mod_linger/offload.h"
#include "mod_linger/settings.h"
#include "mod_linger/status.h"

namespace {

void register_hooks(apr_pool_t*) {
  using namespace lingerd;
  // Start: the counters' shared memory, then each child's connection to lingerd.
  ap_hook_post_config(prepare, nullptr, nullptr, APR_HOOK_MIDDLE);
  ap_hook_child_init(start_child, nullptr, nullptr, APR_HOOK_MIDDLE);

  // A connection: mark it, know the virtual host of its last request, note for the log what is
  // known of its end, part with it.
  ap_hook_process_connection(mark_connection, nullptr, nullptr, APR_HOOK_REALLY_FIRST);
  ap_hook_post_read_request(note_server, nullptr, nullptr, APR_HOOK_REALLY_FIRST);
  ap_hook_log_transaction(note_for_log, nullptr, nullptr, APR_HOOK_REALLY_FIRST);
  ap_hook_pre_close_connection(pre_close, nullptr, nullptr, APR_HOOK_REALLY_FIRST);

  // The rest of a response, with LingerOffload.
  register_offload_filters();
  ap_hook_insert_filter(add_offload_close_filter, nullptr, nullptr, APR_HOOK_MIDDLE);

  // The numbers.
  hook_server_status();
  ap_hook_handler(linger_status_handler, nullptr, nullptr, APR_HOOK_MIDDLE);
}

}  // namespace

module_struct linger_module = {STANDARD20_MODULE_STUFF,
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
