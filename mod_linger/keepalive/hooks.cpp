// SPDX-License-Identifier: Apache-2.0
// LingerKeepAlive's hooks: idle connections go; how they come back is in mod_linger/stay.
#include <httpd.h>  // before the others, which need it

#include <http_config.h>
#include <http_connection.h>
#include <http_protocol.h>

#include "mod_linger/closing.h"
#include "mod_linger/connection.h"
#include "mod_linger/guarded.h"
#include "mod_linger/keepalive/at_end.h"
#include "mod_linger/keepalive/keepalive.h"
#include "mod_linger/keepalive/park.h"

namespace lingerd {

void register_keep_alive() {
  register_park_filter();
  ap_hook_process_connection(guarded<add_park_filter, DECLINED>, nullptr, nullptr, kBehindOurs);
  ap_hook_post_read_request(guarded<note_credentials, DECLINED>, nullptr, nullptr, kBehindOurs);
  ap_hook_log_transaction(guarded<note_for_parking, DECLINED>, nullptr, nullptr, kBehindOurs);
  closing_steps().goes_instead = goes_instead_of_closing;
}

}  // namespace lingerd
