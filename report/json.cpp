// SPDX-License-Identifier: Apache-2.0
// Flat, because agents like it so: each counter under its ?auto key. By hand, because all that
// needs care is three strings.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include "base/numbers.h"
#include "contract/counters.h"
#include "contract/stats_page.h"
#include "contract/stats_reader.h"
#include "report/report.h"
#include "report/series.h"
#include "report/words.h"

namespace lingerd {
namespace {

// RFC 8259 section 7. Bytes over 0x7f may not be UTF-8 (a path is any bytes): each becomes a '?'.
std::string quoted(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out.append({'\\', c});
    } else if (byte < 0x20) {
      out.append("\\u00").append({kHex[byte >> 4U], kHex[byte & 0xfU]});
    } else {
      out.push_back(byte < 0x7f ? c : '?');
    }
  }
  return out + "\"";
}

class Object {
 public:
  void member(std::string_view key, const std::string& value) {
    out_.append(out_.size() > 1 ? ",\n " : "").append(quoted(key)).append(": ").append(value);
  }
  void number(std::string_view key, std::uint64_t value) { member(key, std::to_string(value)); }
  void string(std::string_view key, std::string_view value) { member(key, quoted(value)); }

  template <typename Infos, typename Values>
  void counters(const Infos& infos, const Values& values) {
    for (std::size_t i = 0; i < infos.size(); ++i) number(infos[i].key, values[i]);
  }
  std::string finish() && { return std::move(out_.append("}")); }

 private:
  std::string out_ = "{";
};

// Oldest first; a slot that nobody sampled is null.
std::string array(const Series& series) {
  std::string out = "[";
  for (const std::optional<double>& value : series) {
    out.append(out.size() > 1 ? "," : "");
    out.append(value ? shortest(*value) : std::string("null"));
  }
  return out + "]";
}

std::string history(const Report& report) {
  Object out;
  out.number("seconds", kRingSeconds);
  out.member("queue", array(queue_series(report)));
  out.member("takenOverPerSecond", array(taken_over_series(report)));
  if (report.module) {
    out.member("handoffsPerSecond", array(handoff_series(report)));
    out.member("fallbacksPerSecond", array(fallback_series(report)));
  }
  return std::move(out).finish();
}

}  // namespace

std::string json(const Report& report) {
  const DaemonStatus& daemon = report.daemon;
  const bool up = daemon.liveness != Liveness::kDown;
  Object out;
  out.string("state", state_word(daemon.liveness));
  out.string("socket", report.socket_path);
  if (!daemon.problem.empty()) out.string("problem", daemon.problem);
  if (!report.obstacle.empty()) out.string("obstacle", report.obstacle);
  out.number("LingerUp", up ? 1 : 0);
  if (up) {
    out.number("pid", daemon.snapshot.pid);
    out.number("heartbeatAgeMillis", heartbeat_age_ms(report));
    out.counters(kDaemonCounterInfo, daemon.snapshot.counters.array());
  }
  if (report.module) out.counters(kModuleCounterInfo, report.module->array());
  out.member("history", history(report));
  return std::move(out).finish() + "\n";
}

}  // namespace lingerd
