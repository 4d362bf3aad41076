// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/request/times.h"

#include <httpd.h>  // before the others, which need it

#include <http_config.h>

#include <algorithm>
#include <limits>

#include "mod_linger/request/missing.h"
#include "mod_linger/request/read_timeout.h"
#include "mod_linger/settings.h"

namespace lingerd {
namespace {

constexpr std::uint64_t kMostHead = std::uint64_t{1} << 20;

ReadTimeout read_timeout;  // of this configuration

bool tighten_by(const ap_directive_t* first) {
  bool any = false;
  for (const ap_directive_t* each = first; each != nullptr; each = each->next) {
    if (strcasecmp(each->directive, "RequestReadTimeout") == 0) {
      any = true;
      read_timeout.tighten(parse_read_timeout(each->args));
    }
    any = tighten_by(each->first_child) || any;
  }
  return any;
}

// What httpd refuses by itself needn't be waited for.
std::uint64_t most_of_head(const server_rec* server) {
  const auto line = static_cast<std::uint64_t>(std::max(server->limit_req_line, 0));
  const auto field = static_cast<std::uint64_t>(std::max(server->limit_req_fieldsize, 0));
  const auto fields = static_cast<std::uint64_t>(std::max(server->limit_req_fields, 0));
  return fields == 0 ? kMostHead : std::min(line + fields * (field + 2) + 4, kMostHead);
}

std::uint32_t lowered(std::uint32_t ms, std::uint32_t seconds) {
  return seconds == 0 ? ms : std::min(ms, std::min(seconds, kMaxDurationMs / 1'000) * 1'000);
}

}  // namespace

int learn_read_timeouts(apr_pool_t*, apr_pool_t*, apr_pool_t*, server_rec*) {
  read_timeout = {};
  if (ap_find_linked_module("mod_reqtimeout.c") == nullptr) return OK;
  if (!tighten_by(ap_conftree)) read_timeout = parse_read_timeout(kReadTimeoutByDefault);
  return OK;
}

RequestLimits limits_of(const server_rec* server) {
  const Settings& settings = settings_of(server);
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
  const std::uint64_t rate =
      std::max<std::uint64_t>(settings.request_min_rate, read_timeout.body_rate);
  return {most_of_head(server), settings.request_body,
          static_cast<std::uint32_t>(std::min(rate, kMost)),
          static_cast<std::uint16_t>(std::min<std::uint32_t>(read_timeout.body, kMostLongestS))};
}

std::uint32_t timeout_ms_for(RequestPart part, const Settings& settings) {
  return lowered(settings.request_timeout_ms,
                 part == RequestPart::kHead ? read_timeout.head : read_timeout.body_grace);
}

}  // namespace lingerd
