// SPDX-License-Identifier: Apache-2.0
// LingerKeepAlive's hooks: idle connections go, and come back through a listener of our own.
#include <httpd.h>  // before the others, which need it

#include <http_config.h>
#include <http_connection.h>
#include <http_log.h>
#include <http_protocol.h>

#include "mod_linger/child.h"
#include "mod_linger/closing.h"
#include "mod_linger/connection.h"
#include "mod_linger/guarded.h"
#include "mod_linger/keepalive/at_end.h"
#include "mod_linger/keepalive/come_back.h"
#include "mod_linger/keepalive/keepalive.h"
#include "mod_linger/keepalive/known_lingerds.h"
#include "mod_linger/keepalive/listener.h"
#include "mod_linger/keepalive/objections.h"
#include "mod_linger/keepalive/over_tls.h"
#include "mod_linger/keepalive/park.h"
#include "mod_linger/keepalive/proof.h"
#include "mod_linger/keepalive/strangers.h"
#include "mod_linger/tally.h"

namespace lingerd {
namespace {

int prepare_keep_alive(apr_pool_t*, apr_pool_t*, apr_pool_t* temp_pool, server_rec* server) {
  if (Tally* tally = this_child().tally) tally->resume_parking();
  learn_lingerds(server);
  announce_listener(server);
  learn_objections(temp_pool, server);
  return OK;
}

}  // namespace

void register_keep_alive() {
  register_tls_parking();
  // The listener has to be there before the MPM opens its own.
  static const char* const kMpms[] = {"prefork.c", "worker.c", "event.c", nullptr};
  ap_hook_open_logs(guarded<open_listener, OK>, nullptr, kMpms, APR_HOOK_REALLY_FIRST);
  ap_hook_post_config(guarded<prepare_keep_alive, OK>, nullptr, nullptr, APR_HOOK_LAST);
  ap_hook_child_init(guarded<look_after_listener>, nullptr, nullptr, APR_HOOK_MIDDLE);
  ap_hook_child_init(guarded<learn_strangers>, nullptr, nullptr, APR_HOOK_MIDDLE);
  ap_hook_child_init(guarded<learn_listeners>, nullptr, nullptr, APR_HOOK_MIDDLE);

  // Out.
  register_park_filter();
  ap_hook_process_connection(guarded<add_park_filter, DECLINED>, nullptr, nullptr, kBehindOurs);
  ap_hook_post_read_request(guarded<note_credentials, DECLINED>, nullptr, nullptr, kBehindOurs);
  ap_hook_log_transaction(guarded<note_for_parking, DECLINED>, nullptr, nullptr, kBehindOurs);
  closing_steps().goes_instead = goes_instead_of_closing;

  // And back.
  ap_hook_create_connection(guarded<come_back, nullptr>, nullptr, nullptr, APR_HOOK_REALLY_FIRST);
  ap_hook_pre_connection(guarded<restore, OK>, nullptr, nullptr, APR_HOOK_REALLY_FIRST);
}

}  // namespace lingerd
