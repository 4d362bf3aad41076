// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/hooks.h"

#include <httpd.h>  // before the others, which need it

#include <http_config.h>
#include <http_connection.h>
#include <http_log.h>
#include <http_protocol.h>

#include "mod_linger/child.h"
#include "mod_linger/guarded.h"
#include "mod_linger/stay/come_back.h"
#include "mod_linger/stay/known_lingerds.h"
#include "mod_linger/stay/listener.h"
#include "mod_linger/stay/objections.h"
#include "mod_linger/stay/over_tls.h"
#include "mod_linger/stay/proof.h"
#include "mod_linger/stay/strangers.h"
#include "mod_linger/tally.h"

namespace lingerd {
namespace {

int prepare_stays(apr_pool_t*, apr_pool_t*, apr_pool_t* temp_pool, server_rec* server) {
  if (Tally* tally = this_child().tally) tally->resume_parking();
  learn_lingerds(server);
  announce_listener(server);
  learn_objections(temp_pool, server);
  return OK;
}

}  // namespace

void register_stays() {
  register_tls_parking();
  // The listener has to be there before the MPM opens its own.
  static const char* const kMpms[] = {"prefork.c", "worker.c", "event.c", nullptr};
  ap_hook_open_logs(guarded<open_listener, OK>, nullptr, kMpms, APR_HOOK_REALLY_FIRST);
  ap_hook_post_config(guarded<prepare_stays, OK>, nullptr, nullptr, APR_HOOK_LAST);
  ap_hook_child_init(guarded<look_after_listener>, nullptr, nullptr, APR_HOOK_MIDDLE);
  ap_hook_child_init(guarded<learn_strangers>, nullptr, nullptr, APR_HOOK_MIDDLE);
  ap_hook_child_init(guarded<learn_listeners>, nullptr, nullptr, APR_HOOK_MIDDLE);

  ap_hook_create_connection(guarded<come_back, nullptr>, nullptr, nullptr, APR_HOOK_REALLY_FIRST);
  ap_hook_pre_connection(guarded<restore, OK>, nullptr, nullptr, APR_HOOK_REALLY_FIRST);
}

}  // namespace lingerd
