// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include "contract/counters.h"
#include "contract/stats_page.h"
#include "report/report.h"

namespace lingerd {
namespace {

// No heading, no empty value, no spaces in a key: agents split each line at the first ": ".
void line(std::string& out, std::string_view key, std::uint64_t value) {
  out.append(key).append(": ").append(std::to_string(value)).push_back('\n');
}

template <typename Info, typename Values>
void lines(std::string& out, const Info& info, const Values& values) {
  for (std::size_t i = 0; i < info.size(); ++i) line(out, info[i].key, values[i]);
}

}  // namespace

std::string auto_lines(const Report& report) {
  const bool up = report.daemon.liveness != Liveness::kDown;
  std::string out;
  line(out, "LingerUp", up ? 1 : 0);
  if (report.module) lines(out, kModuleCounterInfo, report.module->array());
  if (up) lines(out, kDaemonCounterInfo, report.daemon.snapshot.counters.array());
  return out;
}

}  // namespace lingerd
