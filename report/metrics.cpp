// SPDX-License-Identifier: Apache-2.0
// Metrics, in two dialects that differ in one thing: OpenMetrics declares a counter's family
// without the suffix _total that its sample has, and its unit; Prometheus's text format (which
// `promtool check metrics` and node_exporter's textfile collector read) declares the sample's own
// name.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include "base/numbers.h"
#include "contract/counters.h"
#include "contract/stats_page.h"
#include "contract/stats_reader.h"
#include "report/report.h"
#include "report/words.h"

namespace lingerd {
namespace {

struct Family {
  std::string_view name;
  CounterType type;
  CounterUnit unit;
  std::string_view help;
};

std::string_view unit_name(CounterUnit unit) {
  switch (unit) {
    case CounterUnit::kCount: return {};
    case CounterUnit::kBytes: return "bytes";
    case CounterUnit::kMicros:
    case CounterUnit::kMillis:
    case CounterUnit::kSeconds: return "seconds";
  }
  return {};
}

std::string in_base_units(CounterUnit unit, std::uint64_t value) {
  switch (unit) {
    case CounterUnit::kMicros: return decimal(value, 6);
    case CounterUnit::kMillis: return decimal(value, 3);
    default: return std::to_string(value);
  }
}

void escaped(std::string& out, std::string_view help) {
  for (const char c : help) {
    if (c == '\\' || c == '"') out.push_back('\\');
    out.push_back(c);
  }
}

class Writer {
 public:
  explicit Writer(MetricsFormat format) : open_(format == MetricsFormat::kOpenMetrics) {}

  void family(const Family& f, const std::string& value) {
    const bool counter = f.type == CounterType::kCounter;
    const std::string sample = std::string(f.name) + (counter ? "_total" : "");
    const std::string_view declared = open_ ? f.name : std::string_view(sample);
    out_.append("# TYPE ").append(declared).append(counter ? " counter\n" : " gauge\n");
    if (open_ && !unit_name(f.unit).empty()) {
      out_.append("# UNIT ").append(declared).append(" ").append(unit_name(f.unit)).append("\n");
    }
    out_.append("# HELP ").append(declared).append(" ");
    escaped(out_, f.help);
    out_.append("\n").append(sample).append(" ").append(value).append("\n");
  }

  template <typename Infos, typename Values>
  void counters(const Infos& infos, const Values& values) {
    for (std::size_t i = 0; i < infos.size(); ++i) {
      const CounterInfo& info = infos[i];
      family({info.metric, info.type, info.unit, info.help}, in_base_units(info.unit, values[i]));
    }
  }

  std::string finish() && { return std::move(out_.append("# EOF\n")); }

 private:
  bool open_;
  std::string out_;
};

}  // namespace

std::string metrics(const Report& report, MetricsFormat format) {
  const DaemonStatus& daemon = report.daemon;
  const bool up = daemon.liveness != Liveness::kDown;
  Writer out(format);
  out.family({kUpMetric, CounterType::kGauge, CounterUnit::kCount, kUpHelp}, up ? "1" : "0");
  if (up) {
    out.family({kHeartbeatMetric, CounterType::kGauge, CounterUnit::kSeconds, kHeartbeatHelp},
               decimal(heartbeat_age_ms(report), 3));
    out.counters(kDaemonCounterInfo, daemon.snapshot.counters.array());
  }
  if (report.module) out.counters(kModuleCounterInfo, report.module->array());
  return std::move(out).finish();
}

const char* content_type(MetricsFormat format) {
  return format == MetricsFormat::kOpenMetrics
             ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
             : "text/plain; version=0.0.4; charset=utf-8";
}

MetricsFormat preferred_metrics(std::string_view accept) {
  const bool knows_open = accept.find("application/openmetrics-text") != std::string_view::npos;
  const bool takes_text = accept.find("text/") != std::string_view::npos;
  return takes_text && !knows_open ? MetricsFormat::kPrometheus : MetricsFormat::kOpenMetrics;
}

}  // namespace lingerd
