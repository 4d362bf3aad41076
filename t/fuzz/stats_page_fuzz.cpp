// SPDX-License-Identifier: Apache-2.0
// Whatever file lies where the stats page should be: refused, or written out in every form that a
// report has.
#include "contract/stats_page.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "lingerctl/text.h"
#include "report/report.h"

namespace {

using namespace lingerd;

constexpr std::uint64_t kNowNs = 1'000'000'000'000;

void write_out(const StatsSnapshot& snapshot) {
  Report report;
  report.daemon.snapshot = snapshot;
  report.daemon.liveness = liveness(true, snapshot.heartbeat_ns, kNowNs);
  report.module.emplace();
  report.now_ns = kNowNs;
  report.socket_path = "/run/lingerd/lingerd.sock";
  if (auto_lines(report).find("LingerTotal: ") == std::string::npos) std::abort();
  if (json(report).empty() || html_section(report).empty()) std::abort();
  if (!metrics(report, MetricsFormat::kOpenMetrics).ends_with("# EOF\n")) std::abort();
  if (screenful(report, {.colour = true, .utf8 = true}).empty()) std::abort();
  Report before = report;
  before.now_ns = kNowNs - 1'000'000'000;
  if (live_screen(before, report, {}).empty()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  StatsSnapshot snapshot;
  std::uint64_t sequence = 0;
  if (size >= offsetof(StatsPage, sequence) + sizeof sequence) {
    std::memcpy(&sequence, data + offsetof(StatsPage, sequence), sizeof sequence);
  }
  const auto bytes = std::as_bytes(std::span(data, size));
  if (read_page(bytes, sequence, kNowNs, snapshot) == ReadResult::kOk) write_out(snapshot);
  return 0;
}
