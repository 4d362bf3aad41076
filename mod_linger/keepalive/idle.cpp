// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/keepalive/idle.h"

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>
#include <http_log.h>
#include <util_filter.h>

#include "contract/record.h"
#include "mod_linger/connection.h"
#include "mod_linger/keepalive/keepalive.h"
#include "mod_linger/module.h"
#include "mod_linger/settings.h"
#include "mod_linger/stay/departure.h"

namespace lingerd {

bool can_be_parked_for(apr_interval_time_t timeout, std::uint32_t wait_ms) {
  return timeout > apr_time_from_msec(wait_ms) && timeout <= apr_time_from_msec(kMaxDurationMs);
}

bool anything_buffered(ap_filter_t* filter, Park& park) {
  if (filter->c->data_in_input_filters) return true;
  if (park.scratch == nullptr) {
    park.scratch = apr_brigade_create(filter->c->pool, filter->c->bucket_alloc);
  }
  const apr_status_t status =
      ap_get_brigade(filter->next, park.scratch, AP_MODE_SPECULATIVE, APR_NONBLOCK_READ, 1);
  const bool nothing = status == APR_SUCCESS && APR_BRIGADE_EMPTY(park.scratch);
  apr_brigade_cleanup(park.scratch);
  return !nothing;
}

bool parks(conn_rec* connection, apr_interval_time_t timeout, std::uint64_t since_ns) {
  Handoff handoff = handoff_with(settings_of(server_of(connection)), since_ns);
  handoff.kind = RecordKind::kIdle;
  handoff.stall_ms = static_cast<std::uint32_t>(apr_time_as_msec(timeout));
  handoff.keepalives = static_cast<std::uint32_t>(connection->keepalives);
  if (!departs(connection, handoff)) return false;
  ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection,
                "parked after %d requests, for at most %u ms", connection->keepalives,
                handoff.stall_ms);
  return true;
}

}  // namespace lingerd
