// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/filters.h"

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>
#include <http_connection.h>
#include <http_log.h>
#include <util_filter.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/clock.h"
#include "contract/counters.h"
#include "mod_linger/guarded.h"
#include "mod_linger_tls/feature.h"
#include "mod_linger_tls/inner/bridge.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/record.h"
#include "mod_linger_tls/module.h"

namespace lingerd::tls {
namespace {

constexpr char kFilter[] = "LINGER_TLS";
constexpr auto kUnderSsl = static_cast<ap_filter_type>(AP_FTYPE_CONNECTION + 6);

// `use(bytes)` of each bucket that holds some; false ends it.
template <typename Use>
apr_status_t read_all(apr_bucket_brigade* brigade, Use use) {
  for (apr_bucket* each = APR_BRIGADE_FIRST(brigade); each != APR_BRIGADE_SENTINEL(brigade);
       each = APR_BUCKET_NEXT(each)) {
    if (APR_BUCKET_IS_METADATA(each)) continue;
    const char* data = nullptr;
    apr_size_t length = 0;
    const apr_status_t status = apr_bucket_read(each, &data, &length, APR_BLOCK_READ);
    if (status != APR_SUCCESS) return status;
    if (!use(ConstBytes{reinterpret_cast<const unsigned char*>(data), length})) {
      return APR_ECONNABORTED;
    }
  }
  return APR_SUCCESS;
}

void append(apr_bucket_brigade* brigade, ConstBytes bytes) {
  if (bytes.empty()) return;
  APR_BRIGADE_INSERT_TAIL(
      brigade, apr_bucket_heap_create(reinterpret_cast<const char*>(bytes.data()), bytes.size(),
                                      nullptr, brigade->bucket_alloc));
}

// mod_ssl has got its connection back: what that has cost.
void note_resumed(conn_rec* connection, Connection& ours) {
  if (ours.arrived_ns == 0 || !ours.bridge->up()) return;
  const std::uint64_t took_ns = monotonic_ns() - ours.arrived_ns;
  ours.arrived_ns = 0;
  linger_side()->count(ModuleCounter::kTlsResumed, 1);
  linger_side()->count(ModuleCounter::kTlsResumeMicros, took_ns);
  ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection,
                "went on with its TLS connection in %" APR_UINT64_T_FMT " us",
                static_cast<apr_uint64_t>(took_ns / 1'000));
}

// ---- Out

// What waits for the client, in the place of what mod_ssl has written.
apr_status_t pass_to_client(ap_filter_t* filter, Bridge& bridge, apr_bucket_brigade* brigade) {
  take_for_client(bridge, brigade);
  return APR_BRIGADE_EMPTY(brigade) ? APR_SUCCESS : ap_pass_brigade(filter->next, brigade);
}

// Metadata stays where it is between the bytes.
apr_status_t write_bridged(ap_filter_t* filter, Connection& ours, apr_bucket_brigade* brigade) {
  Bridge& bridge = *ours.bridge;
  bool good = true;
  for (apr_bucket* each = APR_BRIGADE_FIRST(brigade); each != APR_BRIGADE_SENTINEL(brigade);) {
    apr_bucket* next = APR_BUCKET_NEXT(each);
    if (!APR_BUCKET_IS_METADATA(each)) {
      const char* data = nullptr;
      apr_size_t length = 0;
      const apr_status_t status = apr_bucket_read(each, &data, &length, APR_BLOCK_READ);
      if (status != APR_SUCCESS) return status;
      next = APR_BUCKET_NEXT(each);
      good = good && bridge.from_server({reinterpret_cast<const unsigned char*>(data), length});
      const ConstBytes out = bridge.for_client();
      if (!out.empty()) {
        apr_bucket* bytes = apr_bucket_heap_create(reinterpret_cast<const char*>(out.data()),
                                                   out.size(), nullptr, brigade->bucket_alloc);
        APR_BUCKET_INSERT_BEFORE(each, bytes);
        bridge.client_took(out.size());
      }
      apr_bucket_delete(each);
    }
    each = next;
  }
  note_resumed(filter->c, ours);
  const apr_status_t status = pass_to_client(filter, bridge, brigade);
  return good || status != APR_SUCCESS ? status : broken(filter->c, bridge);
}

apr_status_t out_filter(ap_filter_t* filter, apr_bucket_brigade* brigade) {
  auto& ours = *static_cast<Connection*>(filter->ctx);
  if (ours.gone) {
    // Its sequence numbers are another process's: not even a goodbye.
    apr_brigade_cleanup(brigade);
    return APR_SUCCESS;
  }
  if (ours.bridge) return write_bridged(filter, ours, brigade);
  const apr_status_t status = read_all(brigade, [&](ConstBytes bytes) {
    ours.written.follow(bytes);
    return true;
  });
  return status == APR_SUCCESS ? ap_pass_brigade(filter->next, brigade) : status;
}

// ---- In

apr_status_t read_tapped(ap_filter_t* filter, Connection& ours, apr_bucket_brigade* brigade,
                         ap_input_mode_t mode, apr_read_type_e block, apr_off_t bytes) {
  const apr_status_t status = ap_get_brigade(filter->next, brigade, mode, block, bytes);
  if (status != APR_SUCCESS || mode == AP_MODE_SPECULATIVE) return status;
  return read_all(brigade, [&](ConstBytes read) {
    ours.read.follow(read);
    return true;
  });
}

// As much of what waits for mod_ssl as it asks for.
void give_to_ssl(Bridge& bridge, apr_bucket_brigade* brigade, apr_off_t bytes) {
  const ConstBytes waiting = bridge.for_server();
  const ConstBytes given = waiting.first(
      std::min(waiting.size(), static_cast<std::size_t>(std::max<apr_off_t>(bytes, 1))));
  append(brigade, given);
  bridge.server_took(given.size());
}

// The alert that tells the client why.
apr_status_t end_bridged(ap_filter_t* filter, Connection& ours) {
  conn_rec* connection = filter->c;
  if (!ours.bridge->for_client().empty()) {
    apr_bucket_brigade* last = apr_brigade_create(connection->pool, connection->bucket_alloc);
    take_for_client(*ours.bridge, last);
    APR_BRIGADE_INSERT_TAIL(last, apr_bucket_flush_create(connection->bucket_alloc));
    (void)ap_pass_brigade(ours.below_ssl->next, last);
    apr_brigade_destroy(last);
  }
  return broken(connection, *ours.bridge);
}

// One read from the client. APR_EAGAIN: nothing yet.
apr_status_t read_from_client(ap_filter_t* filter, Connection& ours, apr_bucket_brigade* brigade,
                              apr_read_type_e block) {
  constexpr apr_off_t kAtOnce = kMaxRecord;
  apr_status_t status = ap_get_brigade(filter->next, brigade, AP_MODE_READBYTES, block, kAtOnce);
  if (status != APR_SUCCESS) return status;
  if (APR_BRIGADE_EMPTY(brigade)) return APR_EAGAIN;
  const bool ended = APR_BUCKET_IS_EOS(APR_BRIGADE_LAST(brigade));
  status = read_all(brigade, [&](ConstBytes bytes) { return ours.bridge->from_client(bytes); });
  apr_brigade_cleanup(brigade);
  return status == APR_SUCCESS && ended ? APR_EOF : status;
}

apr_status_t read_bridged(ap_filter_t* filter, Connection& ours, apr_bucket_brigade* brigade,
                          ap_input_mode_t mode, apr_read_type_e block, apr_off_t bytes) {
  Bridge& bridge = *ours.bridge;
  if (mode != AP_MODE_READBYTES) return APR_ENOTIMPL;  // mod_ssl asks for nothing else
  apr_status_t status = APR_SUCCESS;
  for (;;) {
    if (!bridge.for_server().empty()) {
      give_to_ssl(bridge, brigade, bytes);
      return APR_SUCCESS;
    }
    if (ours.gone) return status;  // parked, by a filter below
    if (*bridge.failure() != '\0') return end_bridged(filter, ours);
    if (status != APR_SUCCESS) return status;
    if (bridge.client_has_ended()) return APR_EOF;
    if (!bridge.up()) return APR_ECONNABORTED;  // it was mod_ssl's turn
    status = read_from_client(filter, ours, brigade, block);
    if (APR_STATUS_IS_EAGAIN(status) && block == APR_BLOCK_READ) status = APR_SUCCESS;
  }
}

apr_status_t in_filter(ap_filter_t* filter, apr_bucket_brigade* brigade, ap_input_mode_t mode,
                       apr_read_type_e block, apr_off_t bytes) {
  auto& ours = *static_cast<Connection*>(filter->ctx);
  if (ours.gone) return APR_TIMEUP;
  return ours.bridge ? read_bridged(filter, ours, brigade, mode, block, bytes)
                     : read_tapped(filter, ours, brigade, mode, block, bytes);
}

}  // namespace

void register_filters() {
  ap_register_input_filter(kFilter, guarded<in_filter, APR_ENOMEM>, nullptr, kUnderSsl);
  ap_register_output_filter(kFilter, guarded<out_filter, APR_ENOMEM>, nullptr, kUnderSsl);
}

void add_filters(conn_rec* connection, Connection& ours) {
  ap_add_input_filter(kFilter, &ours, nullptr, connection);
  ours.below_ssl = ap_add_output_filter(kFilter, &ours, nullptr, connection);
}

void take_for_client(Bridge& bridge, apr_bucket_brigade* brigade) {
  const ConstBytes bytes = bridge.for_client();
  append(brigade, bytes);
  bridge.client_took(bytes.size());
}

apr_status_t broken(conn_rec* connection, const Bridge& bridge) {
  ap_log_cerror(APLOG_MARK, APLOG_INFO, 0, connection,
                "a TLS connection that had been parked ends: %s", bridge.failure());
  return APR_ECONNABORTED;
}

}  // namespace lingerd::tls
