// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/status.h"

#include <httpd.h>  // before the others, which need it

#include <apr_optional_hooks.h>
#include <apr_strings.h>
#include <http_protocol.h>
#include <mod_status.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "contract/counters.h"
#include "contract/stats_reader.h"
#include "mod_linger/child.h"
#include "mod_linger/link/obstacle.h"
#include "mod_linger/module.h"
#include "report/report.h"

namespace lingerd {
namespace {

constexpr unsigned kLongestRefresh = 86'400;

Report make_report() {
  const Child& child = this_child();
  Report report;
  report.now_ns = monotonic_ns();
  report.socket_path = child.socket_path;
  report.daemon = read_stats(stats_path(), report.now_ns);
  if (child.tally != nullptr) {
    report.module = child.tally->counters();
    if (child.kept_tls != nullptr) (*report.module)[ModuleCounter::kParkedTls] = child.kept_tls();
    report.module_ring = child.tally->ring();
    report.obstacle = words_of(child.tally->last_found(child.place)).last_hand_off;
  }
  return report;
}

// Nothing throws across an httpd callback.
template <typename Write>
int write_guarded(request_rec* request, Write write) {
  try {
    const std::string text = write();
    ap_rwrite(text.data(), static_cast<int>(text.size()), request);
    return OK;
  } catch (const std::exception& problem) {
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, request, "no linger report: %s", problem.what());
    return HTTP_INTERNAL_SERVER_ERROR;
  }
}

int add_to_server_status(request_rec* request, int flags) {
  write_guarded(request, [&] {
    const Report report = make_report();
    return (flags & AP_STATUS_SHORT) != 0 ? auto_lines(report) : html_section(report);
  });
  return OK;
}

bool asks_for(const request_rec* request, const char* what) {
  if (request->args == nullptr) return false;
  const char* rest = request->args;
  while (*rest != '\0') {
    const std::string_view word = ap_getword(request->pool, &rest, '&');
    // Prometheus can't ask for ?metrics, only for ?metrics=.
    if (word.substr(0, word.find('=')) == what) return true;
  }
  return false;
}

unsigned refresh_of(const request_rec* request) {
  constexpr std::string_view kName = "refresh=";
  const char* rest = request->args != nullptr ? request->args : "";
  while (*rest != '\0') {
    const char* word = ap_getword(request->pool, &rest, '&');
    if (std::string_view(word).substr(0, kName.size()) != kName) continue;
    const long seconds = std::strtol(word + kName.size(), nullptr, 10);
    return seconds < 1 ? 1 : static_cast<unsigned>(std::min<long>(seconds, kLongestRefresh));
  }
  return 0;
}

}  // namespace

void hook_server_status() {
  APR_OPTIONAL_HOOK(ap, status_hook, add_to_server_status, nullptr, nullptr, APR_HOOK_MIDDLE);
}

int linger_status_handler(request_rec* request) {
  if (request->handler == nullptr || std::string_view(request->handler) != "linger-status") {
    return DECLINED;
  }
  request->allowed = AP_METHOD_BIT << M_GET;
  if (request->method_number != M_GET) return DECLINED;
  apr_table_setn(request->headers_out, "Cache-Control", "no-store");
  return write_guarded(request, [&]() -> std::string {
    const Report report = make_report();
    if (asks_for(request, "auto")) {
      ap_set_content_type(request, "text/plain; charset=utf-8");
      return auto_lines(report);
    }
    if (asks_for(request, "json")) {
      ap_set_content_type(request, "application/json");
      return json(report);
    }
    if (asks_for(request, "metrics")) {
      const char* accept = apr_table_get(request->headers_in, "Accept");
      const MetricsFormat format = preferred_metrics(accept != nullptr ? accept : "");
      apr_table_setn(request->headers_out, "Vary", "Accept");
      ap_set_content_type(request, content_type(format));
      return metrics(report, format);
    }
    ap_set_content_type(request, "text/html; charset=utf-8");
    return html_page(report, refresh_of(request));
  });
}

}  // namespace lingerd
