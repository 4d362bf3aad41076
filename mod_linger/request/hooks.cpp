// SPDX-License-Identifier: Apache-2.0
// LingerRequest's hooks; how connections come back is in mod_linger/stay.
#include <httpd.h>  // before the others, which need it

#include <http_config.h>
#include <http_connection.h>
#include <http_protocol.h>
#include <http_request.h>

#include "mod_linger/connection.h"
#include "mod_linger/guarded.h"
#include "mod_linger/request/request.h"
#include "mod_linger/request/times.h"

namespace lingerd {

void register_request() {
  register_request_filter();
  ap_hook_post_config(guarded<learn_read_timeouts, OK>, nullptr, nullptr, APR_HOOK_MIDDLE);
  ap_hook_process_connection(guarded<add_request_filter, DECLINED>, nullptr, nullptr,
                             kBehindOurs + 1);
  ap_hook_create_request(guarded<note_request, OK>, nullptr, nullptr, APR_HOOK_REALLY_FIRST);
  ap_hook_pre_close_connection(guarded<note_cut_off, DECLINED>, nullptr, nullptr, kBehindOurs);
}

}  // namespace lingerd
