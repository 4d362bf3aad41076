// SPDX-License-Identifier: Apache-2.0
// LingerOffload's hooks.
#include <httpd.h>  // before the others, which need it

#include <http_config.h>
#include <http_connection.h>
#include <http_protocol.h>
#include <http_request.h>

#include "mod_linger/closing.h"
#include "mod_linger/connection.h"
#include "mod_linger/guarded.h"
#include "mod_linger/offload/ending.h"
#include "mod_linger/offload/filter.h"
#include "mod_linger/offload/offload.h"

namespace lingerd {

void register_offload() {
  register_offload_filters();
  ap_hook_post_config(guarded<look_for_offload, OK>, nullptr, nullptr, APR_HOOK_MIDDLE);
  ap_hook_process_connection(guarded<add_offload_filter, DECLINED>, nullptr, nullptr, kBehindOurs);
  ap_hook_post_read_request(guarded<begin_offload, DECLINED>, nullptr, nullptr, kBehindOurs);
  ap_hook_insert_filter(guarded<add_offload_close_filter>, nullptr, nullptr, APR_HOOK_MIDDLE);
  ap_hook_log_transaction(guarded<end_offload, DECLINED>, nullptr, nullptr, kBehindOurs);
  closing_steps().part_with_rest = part_with_rest;
  closing_steps().end_request = end_request;
}

}  // namespace lingerd
