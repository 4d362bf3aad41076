// SPDX-License-Identifier: Apache-2.0
// lingerctl: what lingerd counts, read from its stats page. Never talks to lingerd, so it is as
// quick while that is stopped or gone.
#include <langinfo.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <clocale>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "base/flags.h"
#include "contract/defaults.h"
#include "contract/stats_page.h"
#include "contract/stats_reader.h"
#include "contract/version.h"
#include "lingerctl/check.h"
#include "lingerctl/files.h"
#include "lingerctl/terminal.h"
#include "lingerctl/text.h"

#include "report/report.h"

namespace lingerd {
namespace {

constexpr int kBadArgument = 2;

constexpr char kHead[] =
    "Usage: lingerctl [OPTION]...\n"
    "       lingerctl top [--interval SECONDS]\n"
    "       lingerctl check [--warn LIMITS] [--crit LIMITS]\n"
    "       lingerctl files\n"
    "Shows what lingerd does. Reads its stats page only, so it answers while lingerd is\n"
    "busy, stopped or gone.\n"
    "\n";
constexpr char kTopHead[] =
    "\n"
    "top: live, with rates per second; q quits, space refreshes.\n";
constexpr char kCheckHead[] =
    "\n"
    "check: a monitoring plugin; exits 0 (ok), 1 (warning), 2 (critical), 3 (unknown).\n"
    "Critical while lingerd is down or shows no sign of life.\n";
constexpr char kFoot[] =
    "LIMITS is a list that changes the default: queue=PERCENT (of --max-connections, now),\n"
    "fallbacks=PERCENT (of httpd's connections), evicted=N, rejected=N (all three: in the\n"
    "last ten minutes), peers=N (fewer connections from httpd than N, now); off instead of\n"
    "a number turns one off; a number alone is queue's.\n"
    "\n"
    "files: the files that lingerd delivers, by file system: those can't be unmounted yet.\n"
    "For root, and for lingerd's user.\n";

constexpr char kDefaultInterval[] = "1";
// The last of these are for one command each: kTopFlags, then kCheckFlags.
constexpr std::array<Flag, 10> kFlags{{
    {"socket", "PATH", kDefaultSocket, "lingerd's socket; the stats page is PATH.stats."},
    {"json", "", "", "One JSON object, with the last ten minutes."},
    {"metrics", "", "", "Prometheus's text format."},
    {"openmetrics", "", "", "OpenMetrics."},
    {"explain", "", "", "What each counter means, those of mod_linger too."},
    {"version", "", "", "Print the version and exit."},
    {"help", "", "", "Print this and exit."},
    {"interval", "SECONDS", kDefaultInterval, "Between two looks: 0.1-3600."},
    {"warn", "LIMITS", kDefaultWarn, "Warn from there on."},
    {"crit", "LIMITS", kDefaultCrit, "Critical from there on."},
}};
constexpr std::span kTopFlags = std::span(kFlags).subspan<7, 1>();
constexpr std::span kCheckFlags = std::span(kFlags).subspan<8, 2>();

std::string help_text() {
  std::string text = kHead;
  for (const Flag& flag : std::span(kFlags).first<7>()) append_help(text, flag);
  text += kTopHead;
  for (const Flag& flag : kTopFlags) append_help(text, flag);
  text += kCheckHead;
  for (const Flag& flag : kCheckFlags) append_help(text, flag);
  return text + kFoot;
}

struct Arguments {
  GivenFlags flags;
  bool top = false;
  bool check = false;
  bool files = false;

  // The last one counts.
  [[nodiscard]] std::optional<std::string> value(std::string_view key) const {
    std::optional<std::string> found;
    for (const Given& one : flags.given) {
      if (one.key == key) found = one.value;
    }
    return found;
  }
  [[nodiscard]] std::string socket() const { return value("socket").value_or(kDefaultSocket); }
};

// "--FLAG goes with lingerctl COMMAND", or "".
std::string out_of_place(const GivenFlags& flags, std::span<const Flag> of_command,
                         const char* command) {
  for (const Flag& flag : of_command) {
    if (flags.has(flag.key)) {
      return "--" + std::string(flag.key) + " goes with lingerctl " + command;
    }
  }
  return {};
}

// Two of the formats at once, or "".
std::string excluded(const GivenFlags& flags) {
  std::string_view first;
  for (const std::string_view key : {"json", "metrics", "openmetrics"}) {
    if (!flags.has(key)) continue;
    if (!first.empty()) return "--" + std::string(first) + " excludes --" + std::string(key);
    first = key;
  }
  return {};
}

// What is wrong with the arguments, or "".
std::string parse(int argc, const char* const* argv, Arguments& out) {
  out.flags = split_arguments(argc, argv, kFlags, "lingerctl");
  if (!out.flags.problem.empty()) return out.flags.problem;
  for (const Given& one : out.flags.given) {
    if (!one.key.empty()) continue;
    if (one.value != "top" && one.value != "check" && one.value != "files") {
      return one.value +
             ": is neither an option nor top, check or files; lingerctl --help lists all";
    }
    (one.value == "top" ? out.top : one.value == "check" ? out.check : out.files) = true;
  }
  if (out.top + out.check + out.files > 1) return "top, check and files: one of them at a time";
  std::string problem = excluded(out.flags);
  if (problem.empty() && !out.top) problem = out_of_place(out.flags, kTopFlags, "top");
  if (problem.empty() && !out.check) problem = out_of_place(out.flags, kCheckFlags, "check");
  return problem;
}

Report look(const std::string& socket) {
  Report report;
  report.socket_path = socket;
  report.now_ns = monotonic_ns();
  report.daemon = read_stats(stats_path_of(socket).c_str(), report.now_ns);
  return report;
}

TextStyle terminal_style() {
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  const char* term = std::getenv("TERM");
  const bool plain = term == nullptr || std::strcmp(term, "dumb") == 0;
  const bool no_colour = std::getenv("NO_COLOR") != nullptr;
  return {terminal && !plain && !no_colour, std::strcmp(nl_langinfo(CODESET), "UTF-8") == 0};
}

// What was printed may not have arrived: a full disk under a textfile collector.
int finish() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return 0;
  std::perror("lingerctl: standard output");
  return 1;
}

int refuse(const std::string& why) {
  std::fprintf(stderr, "lingerctl: %s\n", why.c_str());
  return kBadArgument;
}

int run_top(const Arguments& arguments) {
  char* end = nullptr;
  const std::string interval = arguments.value("interval").value_or(kDefaultInterval);
  const double seconds = std::strtod(interval.c_str(), &end);
  if (end == interval.c_str() || *end != '\0' || !(seconds >= 0.1 && seconds <= 3600)) {
    return refuse("--interval: '" + interval +
                  "' is not a number of seconds from 0.1 to "
                  "3600");
  }
  if (isatty(STDOUT_FILENO) == 0) {
    return refuse(
        "top: standard output is not a terminal; lingerctl, --json and --metrics print "
        "to files and pipes");
  }
  Terminal terminal;
  const TextStyle style = terminal_style();
  Report before = look(arguments.socket());
  terminal.draw(live_screen(before, before, style) + "\nq quits\n");
  while (true) {
    if (terminal.wait(static_cast<int>(seconds * 1000)) == Terminal::Event::kQuit) return finish();
    Report now = look(arguments.socket());
    terminal.draw(live_screen(before, now, style) + "\nq quits\n");
    before = std::move(now);
  }
}

// The defaults, with what was given over them. Returns what is wrong with that, or "".
std::string limits_of(const char* defaults, const std::optional<std::string>& given,
                      CheckLimits& out) {
  const std::string problem = parse_limits(defaults, out);
  return problem.empty() && given ? parse_limits(*given, out) : problem;
}

int run_check(const Arguments& arguments) {
  CheckLimits warn;
  CheckLimits crit;
  CheckResult result;
  if (const std::string bad = limits_of(kDefaultWarn, arguments.value("warn"), warn);
      !bad.empty()) {
    result = check_unknown("--warn: " + bad);
  } else if (const std::string bad = limits_of(kDefaultCrit, arguments.value("crit"), crit);
             !bad.empty()) {
    result = check_unknown("--crit: " + bad);
  } else {
    result = check(look(arguments.socket()), warn, crit);
  }
  std::puts(result.line.c_str());
  return finish() == 0 ? static_cast<int>(result.status) : static_cast<int>(CheckStatus::kUnknown);
}

int print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  return finish();
}

int run_files(const Arguments& arguments) {
  constexpr int kNoPrivilege = 4;
  constexpr int kNotRunning = 7;
  const Report report = look(arguments.socket());
  if (report.daemon.liveness != Liveness::kUp && report.daemon.liveness != Liveness::kBusy) {
    std::fprintf(stderr, "lingerctl: files: no lingerd runs at %s: it holds none\n",
                 report.socket_path.c_str());
    return kNotRunning;
  }
  const auto pid = static_cast<long>(report.daemon.snapshot.pid);
  try {
    return print(words_on_files(files_under_delivery(pid), pid));
  } catch (const std::runtime_error& error) {
    std::fprintf(stderr, "lingerctl: %s\n", error.what());
    return kNoPrivilege;
  }
}

int run(const Arguments& arguments) {
  if (arguments.flags.has("version")) return print(std::string("lingerctl ") + kVersion + "\n");
  if (arguments.flags.has("explain")) return print(explain_counters());
  if (arguments.check) return run_check(arguments);
  if (arguments.top) return run_top(arguments);
  if (arguments.files) return run_files(arguments);
  const Report report = look(arguments.socket());
  if (arguments.flags.has("json")) return print(json(report));
  if (arguments.flags.has("metrics")) return print(metrics(report, MetricsFormat::kPrometheus));
  if (arguments.flags.has("openmetrics"))
    return print(metrics(report, MetricsFormat::kOpenMetrics));
  return print(screenful(report, terminal_style()));
}

// A plugin that was called wrongly must not look like a warning or a failure of lingerd.
int refuse_arguments(const Arguments& arguments, const std::string& why) {
  for (const Given& one : arguments.flags.given) {
    if (!one.key.empty() || one.value != "check") continue;
    std::puts(check_unknown(why).line.c_str());
    return static_cast<int>(CheckStatus::kUnknown);
  }
  return refuse(why);
}

}  // namespace
}  // namespace lingerd

int main(int argc, char** argv) {
  using namespace lingerd;
  std::setlocale(LC_CTYPE, "");
  try {
    Arguments arguments;
    const std::string problem = parse(argc, argv, arguments);
    if (arguments.flags.has("help")) return print(help_text());
    if (!problem.empty()) return refuse_arguments(arguments, problem);
    return run(arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "lingerctl: %s\n", error.what());
    return 1;
  }
}
