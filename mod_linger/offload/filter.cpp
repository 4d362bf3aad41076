// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/offload/filter.h"

#include <apr_strings.h>
#include <http_protocol.h>
#include <util_filter.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <new>
#include <optional>
#include <string_view>
#include <system_error>

#include "mod_linger/child.h"
#include "mod_linger/connection.h"
#include "mod_linger/offload/offload.h"
#include "mod_linger/offload/rest.h"
#include "mod_linger/offload/wait.h"
#include "mod_linger/offload/writer.h"
#include "mod_linger/settings.h"

namespace lingerd {
namespace {

constexpr char kFilter[] = "LINGER_OFFLOAD";
constexpr char kCloseFilter[] = "LINGER_OFFLOAD_CLOSE";

bool offload_anywhere = false;  // in this configuration; set before any child starts

bool is_http1(conn_rec* connection) {
  return std::strcmp(ap_get_protocol(connection), AP_PROTOCOL_HTTP1) == 0;
}

bool holds_data(apr_bucket_brigade* brigade) {
  for (apr_bucket* b = APR_BRIGADE_FIRST(brigade); b != APR_BRIGADE_SENTINEL(brigade);
       b = APR_BUCKET_NEXT(b)) {
    if (!APR_BUCKET_IS_METADATA(b)) return true;
  }
  return false;
}

// A module that makes a tunnel of a connection takes the request's own filters away, and ends it
// with a shutdown(2) as soon as the core's filter holds nothing more.
bool is_tunnel(const conn_rec* connection, const Offload& offload) {
  return offload.request == nullptr ||
         offload.request->output_filters == connection->output_filters;
}

// The last response of a connection that lingerd will be offered.
bool may_go_direct(conn_rec* connection, const Offload& offload, apr_bucket_brigade* brigade) {
  if (offload.state != OffloadState::kDoubtful || connection->keepalive != AP_CONN_CLOSE ||
      connection->aborted || is_tunnel(connection, offload)) {
    return false;
  }
  const Settings& settings = settings_of(server_of(connection));
  return settings.enabled && settings.offload && holds_data(brigade) && is_http1(connection) &&
         this_child().client != nullptr && this_child().client->delivers();
}

// What the core's filter still holds, of an earlier response, goes first.
apr_status_t flush_below(ap_filter_t* filter) {
  const apr_status_t status = flush_from(filter->next, filter->c);
  return status == APR_SUCCESS && filter->c->aborted ? APR_ECONNABORTED : status;
}

apr_status_t write_direct(ap_filter_t* filter, Offload& offload, apr_bucket_brigade* brigade) {
  conn_rec* connection = filter->c;
  OffloadWriter writer(connection, offload, settings_of(server_of(connection)));
  const apr_status_t status = writer.write(brigade);
  if (status != APR_SUCCESS || !writer.handed_back()) {
    apr_brigade_cleanup(brigade);
    return status;
  }
  offload.state = OffloadState::kForbidden;
  return ap_pass_brigade(filter->next, brigade);
}

apr_status_t offload_filter(ap_filter_t* filter, apr_bucket_brigade* brigade) {
  conn_rec* connection = filter->c;
  Offload* known = offload_of(connection);
  if (known == nullptr) return ap_pass_brigade(filter->next, brigade);
  Offload& offload = *known;
  switch (offload.state) {
    case OffloadState::kForbidden: return ap_pass_brigade(filter->next, brigade);
    case OffloadState::kDoubtful:
      if (!may_go_direct(connection, offload, brigade)) {
        return ap_pass_brigade(filter->next, brigade);
      }
      if (const apr_status_t status = flush_below(filter); status != APR_SUCCESS) {
        apr_brigade_cleanup(brigade);
        return status;
      }
      offload.rest = Rest::make(timeout_ns_of(connection));
      if (!offload.rest) return ap_pass_brigade(filter->next, brigade);
      offload.state = OffloadState::kDirect;
      break;
    case OffloadState::kDirect:
    case OffloadState::kEnded:
    case OffloadState::kGiven: break;
  }
  if (connection->aborted || offload.state == OffloadState::kGiven) {
    apr_brigade_cleanup(brigade);
    return APR_ECONNABORTED;
  }
  return write_direct(filter, offload, brigade);
}

bool may_offload(const request_rec* request) {
  return offload_anywhere && is_plain_http(request);
}

// What a range asks for of `length` bytes: "0-99", "500-" or "-500". None: it isn't one.
std::optional<apr_off_t> size_of_range(std::string_view range, apr_off_t length) {
  const auto dash = range.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const auto number = [](std::string_view text, apr_off_t& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() && value >= 0;
  };
  apr_off_t first = 0;
  apr_off_t last = length - 1;
  if (dash == 0) {
    if (!number(range.substr(1), first)) return std::nullopt;
    return std::min(first, length);
  }
  if (!number(range.substr(0, dash), first)) return std::nullopt;
  if (dash + 1 < range.size() && !number(range.substr(dash + 1), last)) return std::nullopt;
  return std::max<apr_off_t>(std::min(last, length - 1) - first + 1, 0);
}

// The filter that cuts the ranges out comes later. As it does: of what isn't understood, or asks
// for as much as there is, the whole is sent.
apr_off_t length_in_ranges(const request_rec* request, apr_off_t length) {
  constexpr std::string_view kUnit = "bytes=";
  const char* asked = apr_table_get(request->headers_in, "Range");
  if (asked == nullptr || request->status != HTTP_OK) return length;
  std::string_view ranges = asked;
  if (ranges.substr(0, kUnit.size()) != kUnit) return length;
  ranges.remove_prefix(kUnit.size());
  apr_off_t sum = 0;
  while (!ranges.empty()) {
    const std::string_view range = ranges.substr(0, ranges.find(','));
    ranges.remove_prefix(std::min(range.size() + 1, ranges.size()));
    const auto size = size_of_range(range, length);
    if (!size || (sum += *size) >= length) return length;
  }
  return sum;
}

// As far as it is known here. The header, not request->clength: what a filter has changed since
// (mod_deflate, mod_include) has no such header any more, and that number still.
apr_off_t known_length(const request_rec* request) {
  const char* given = apr_table_get(request->headers_out, "Content-Length");
  apr_off_t length = 0;
  char* end = nullptr;
  if (given == nullptr || apr_strtoff(&length, given, &end, 10) != APR_SUCCESS) return 0;
  return length_in_ranges(request, length);
}

// LingerOffloadClose: a response known to be larger is the connection's last, so that it can
// travel.
apr_status_t offload_close_filter(ap_filter_t* filter, apr_bucket_brigade* brigade) {
  request_rec* request = filter->r;
  const Settings& settings = settings_of(request->server);
  if (known_length(request) > static_cast<apr_off_t>(settings.offload_close) &&
      !request->header_only && request->status != HTTP_NOT_MODIFIED && may_offload(request)) {
    apr_table_mergen(request->headers_out, "Connection", "close");
  }
  ap_remove_output_filter(filter);
  return ap_pass_brigade(filter->next, brigade);
}

// Before the pools of requests go: their EOR buckets know whether that has happened.
apr_status_t drop_offload(void* data) {
  auto* offload = static_cast<Offload*>(data);
  if (offload->kept != nullptr) apr_brigade_cleanup(offload->kept);
  offload->rest.reset();
  return APR_SUCCESS;
}

}  // namespace

Offload* offload_of(conn_rec* connection) {
  const Connection* ours = connection_of(connection);
  return ours != nullptr ? ours->offload : nullptr;
}

void register_offload_filters() {
  ap_register_output_filter(kFilter, offload_filter, nullptr,
                            static_cast<ap_filter_type>(AP_FTYPE_NETWORK - 1));
  ap_register_output_filter(kCloseFilter, offload_close_filter, nullptr,
                            static_cast<ap_filter_type>(AP_FTYPE_PROTOCOL - 1));
}

int look_for_offload(apr_pool_t*, apr_pool_t*, apr_pool_t*, server_rec* servers) {
  offload_anywhere = false;
  for (const server_rec* server = servers; server != nullptr; server = server->next) {
    if (settings_of(server).offload) offload_anywhere = true;
  }
  return OK;
}

int add_offload_filter(conn_rec* connection) {
  Connection* ours = offload_anywhere ? connection_of(connection) : nullptr;
  // event and HTTP/2 come here several times.
  if (ours == nullptr || ours->offload != nullptr) return DECLINED;
  ours->offload = new (apr_palloc(connection->pool, sizeof(Offload))) Offload;
  ap_add_output_filter(kFilter, nullptr, nullptr, connection);
  apr_pool_pre_cleanup_register(connection->pool, ours->offload, drop_offload);
  return DECLINED;
}

void add_offload_close_filter(request_rec* request) {
  if (!offload_anywhere) return;
  const Settings& settings = settings_of(request->server);
  if (request->main == nullptr && request->connection->master == nullptr && settings.enabled &&
      settings.offload && settings.offload_close > 0) {
    ap_add_output_filter(kCloseFilter, nullptr, request, request->connection);
  }
}

int begin_offload(request_rec* request) {
  Offload* offload = offload_of(request->connection);
  // What comes behind a connection's last response changes nothing any more.
  if (offload == nullptr || offload->rest) return DECLINED;
  offload->state = may_offload(request) ? OffloadState::kDoubtful : OffloadState::kForbidden;
  offload->request = request;
  return DECLINED;
}

int end_offload(request_rec* request) {
  Offload* offload = offload_of(request->connection);
  if (offload == nullptr) return DECLINED;
  // After an internal redirect it is another one, in the same pool.
  if (offload->request != nullptr && offload->request->pool == request->pool) {
    offload->request = nullptr;
  }
  if (offload->state == OffloadState::kGiven && request->connection->keepalive == AP_CONN_CLOSE) {
    apr_table_setn(request->notes, "linger", "offload");
  }
  return DECLINED;
}

}  // namespace lingerd
