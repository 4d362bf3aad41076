// SPDX-License-Identifier: Apache-2.0
#include "lingerctl/text.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "base/numbers.h"
#include "contract/counters.h"
#include "contract/stats_page.h"
#include "report/series.h"
#include "report/words.h"

namespace lingerd {
namespace {

using enum DaemonCounter;

const CounterInfo& info(DaemonCounter c) {
  return kDaemonCounterInfo[static_cast<std::size_t>(c)];
}

std::string left(std::string_view text, std::size_t width) {
  std::string out(text);
  out.resize(std::max(width, out.size()), ' ');
  return out;
}

std::string right(const std::string& text, std::size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

class Screen {
 public:
  Screen(const Report& report, const Report* before, const TextStyle& style)
      : report_(report), before_(before), style_(style) {}

  std::string draw() && {
    head();
    if (report_.daemon.liveness == Liveness::kDown) {
      out_ += "\nWhat lingerd counted went with it. httpd's side is on its server-status page.\n";
      return std::move(out_);
    }
    queue();
    history();
    out_ += "\n";
    if (before_) out_ += left("", 29) + right("total", 15) + right("per second", 24) + "\n";
    counters();
    return std::move(out_);
  }

 private:
  [[nodiscard]] std::uint64_t value(DaemonCounter c) const {
    return report_.daemon.snapshot.counters[c];
  }

  std::string coloured(const char* code, const std::string& text) const {
    return style_.colour ? std::string("\x1b[") + code + "m" + text + "\x1b[0m" : text;
  }

  void head() {
    static constexpr std::array<const char*, 3> kColours{"1;31", "1;33", "1;32"};  // down busy up
    const Liveness state = report_.daemon.liveness;
    const auto* colour = kColours[static_cast<std::size_t>(state)];
    out_ += coloured(colour, "lingerd is " + std::string(state_word(state)));
    out_ += (state == Liveness::kUp ? " " : ": ") + state_detail(report_) + "\n";
    if (state != Liveness::kDown) {
      out_ += "process " + std::to_string(report_.daemon.snapshot.pid) + ", " +
              peers_text(value(kPeers)) + "\n";
    }
    out_ += "socket " + report_.socket_path + "\n";
  }

  void queue() {
    static constexpr std::size_t kWidth = 40;
    const std::uint64_t limit = std::max<std::uint64_t>(value(kQueueLimit), 1);
    const auto cells = [&](std::uint64_t n) {
      return static_cast<std::size_t>(std::min(
          static_cast<double>(kWidth),
          static_cast<double>(n) / static_cast<double>(limit) * kWidth + (n != 0 ? 0.999 : 0)));
    };
    std::string bar(kWidth, '.');
    bar.replace(0, cells(value(kQueue)), cells(value(kQueue)), '#');
    const std::size_t peak = cells(value(kQueuePeak));
    if (peak > cells(value(kQueue))) bar[peak - 1] = '|';
    out_ += "\n" + left("Queue", 19) + right(grouped(value(kQueue)), 15) + "  [" + bar + "]\n";
    out_ += "  peak " + grouped(value(kQueuePeak)) + ", limit " + grouped(value(kQueueLimit));
    if (value(kOldestMillis) != 0) out_ += ", oldest " + duration_text(value(kOldestMillis));
    out_ += "\n";
  }

  // The last ten minutes in forty columns, each the longest queue of three slots.
  void history() {
    static constexpr std::array<const char*, 9> kBlocks{" ", "▁", "▂", "▃", "▄",
                                                        "▅", "▆", "▇", "█"};
    static constexpr std::array<const char*, 9> kAscii{" ", "_", ".", ":", "-", "=", "+", "*", "#"};
    const Series series = queue_series(report_);
    const double most = most_of(series);
    std::string line;
    for (std::size_t i = 0; i < series.size(); i += 3) {
      const auto three = std::span(series).subspan(i, std::min<std::size_t>(3, series.size() - i));
      const double longest = most_of(three);
      const auto step =
          longest <= 0 ? 0 : std::min(8, 1 + static_cast<int>(7.999 * longest / most));
      line += (style_.utf8 ? kBlocks : kAscii)[static_cast<std::size_t>(step)];
    }
    out_ += left("  last 10 minutes", 19) + right("at most " + shortest(most), 15) + "  [" + line +
            "]\n";
  }

  static double most_of(std::span<const std::optional<double>> series) {
    double most = 0;
    for (const auto& value : series) most = std::max(most, value.value_or(0));
    return most;
  }

  void counters() {
    const std::uint64_t ended = ended_lingers(report_.daemon.snapshot.counters);
    row(kTotal, "");
    for (const DaemonCounter end : counters_in<CounterGroup::kLingerEnds>()) {
      row(end, value(end) ? percent_text(value(end), ended) : "", "  ");
    }
    row(kRejected, "");
    if (value(kFallbacksReported) != 0) row(kFallbacksReported, "");
    row(kRescued, value(kRescued) ? percent_text(value(kRescued), value(kTotal)) : "");
    row(kDrainedBytes, "");
    if (value(kOffloads) != 0) deliveries();
    if (value(kParkedTotal) != 0) parking();
    if (value(kGatherTotal) != 0) requests();
    row(kWorkerMillisFreed, processes_text(value(kWorkerMillisFreed), value(kUptimeSeconds)));
  }

  // Only where LingerOffload has done something.
  void deliveries() {
    row(kOffloads, percent_text(value(kDelivered), value(kOffloads)) + " delivered");
    row(kOffloadPending, "memory " + bytes_text(value(kOffloadMemory)) + " of " +
                             bytes_text(value(kOffloadMemoryLimit)));
  }

  // The same of LingerKeepAlive.
  void parking() {
    const std::uint64_t failed = value(kReturnFailed);
    row(kParkedTotal,
        grouped(value(kParked)) + " now" + (failed ? ", " + grouped(failed) + " failed" : ""));
  }

  // And of LingerRequest.
  void requests() {
    const std::uint64_t failed = value(kGatherReturnFailed);
    row(kGatherTotal,
        grouped(value(kGathering)) + " now" + (failed ? ", " + grouped(failed) + " failed" : ""));
  }

  void row(DaemonCounter c, const std::string& note, const std::string& indent = "") {
    const bool look = (c == kEvicted || c == kRejected || c == kFallbacksReported) && value(c) != 0;
    std::string line = left(indent + std::string(info(c).label), 29) +
                       right(value_text(info(c).unit, value(c)), 15);
    if (before_) {
      line += right(rate(c), 24);
    } else if (!note.empty()) {
      line += "  " + note;
    }
    out_ += (look ? coloured("33", line) : line) + "\n";
  }

  // Freed time per second is a number of workers.
  std::string rate(DaemonCounter c) const {
    const DaemonStatus& then = before_->daemon;
    const double seconds = static_cast<double>(report_.now_ns - before_->now_ns) / 1e9;
    if (then.liveness == Liveness::kDown ||
        then.snapshot.started_ns != report_.daemon.snapshot.started_ns || seconds <= 0 ||
        value(c) < then.snapshot.counters[c]) {
      return "-";
    }
    const double per_second = static_cast<double>(value(c) - then.snapshot.counters[c]) / seconds;
    if (c == kDrainedBytes) return bytes_text(whole_number(per_second)) + "/s";
    if (c == kWorkerMillisFreed) return shortest(per_second / 1000) + " processes";
    return rate_text(per_second);
  }

  const Report& report_;
  const Report* before_;
  const TextStyle& style_;
  std::string out_;
};

std::string_view unit_text(CounterUnit unit) {
  switch (unit) {
    case CounterUnit::kBytes: return "bytes";
    case CounterUnit::kMicros: return "microseconds";
    case CounterUnit::kMillis: return "milliseconds";
    case CounterUnit::kSeconds: return "seconds";
    case CounterUnit::kCount: break;
  }
  return "number";
}

template <typename Infos>
void explain(std::string& out, const Infos& infos) {
  for (const CounterInfo& info : infos) {
    const bool counter = info.type == CounterType::kCounter;
    out.append(info.key).append(" (").append(info.label).append("; ");
    out.append(counter ? "counter" : "gauge").append(", ").append(unit_text(info.unit));
    out.append("; ").append(info.metric).append(counter ? "_total" : "").append(")\n    ");
    out.append(info.help).append("\n");
  }
}

}  // namespace

std::string screenful(const Report& report, const TextStyle& style) {
  return Screen(report, nullptr, style).draw();
}

std::string live_screen(const Report& before, const Report& now, const TextStyle& style) {
  return Screen(now, &before, style).draw();
}

std::string explain_counters() {
  std::string out = "Counted by lingerd:\n\n";
  explain(out, kDaemonCounterInfo);
  out += "\nCounted by mod_linger, on httpd's own pages only:\n\n";
  explain(out, kModuleCounterInfo);
  return out;
}

}  // namespace lingerd
