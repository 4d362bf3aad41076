// SPDX-License-Identifier: Apache-2.0
// lingerctl: what lingerd counts, read from its stats page. Never talks to lingerd, so it is as
// quick while that is stopped or gone.
#include <langinfo.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <clocale>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "lingerd/lingerctl_check.h"
#include "lingerd/lingerctl_terminal.h"
#include "lingerd/lingerctl_text.h"
#include "lingerd/options.h"
#include "lingerd/stats_reader.h"
#include "lingerd/version.h"

namespace lingerd {
namespace {

constexpr int kBadArgument = 2;

constexpr char kHelp[] =
    "Usage: lingerctl [OPTION]...\n"
    "       lingerctl top [--interval SECONDS]\n"
    "       lingerctl check [--warn LIMITS] [--crit LIMITS]\n"
    "Shows what lingerd does. Reads its stats page only, so it answers while lingerd is\n"
    "busy, stopped or gone.\n"
    "\n"
    "  --socket PATH         lingerd's socket; the stats page is PATH.stats. Default:\n"
    "                        /run/lingerd/lingerd.sock.\n"
    "  --json                One JSON object, with the last ten minutes.\n"
    "  --metrics             Prometheus's text format.\n"
    "  --openmetrics         OpenMetrics.\n"
    "  --explain             What each counter means, those of mod_linger too.\n"
    "  --version             Print the version and exit.\n"
    "  --help                Print this and exit.\n"
    "\n"
    "top: live, with rates per second; q quits, space refreshes.\n"
    "  --interval SECONDS    Between two looks: 0.1-3600. Default: 1.\n"
    "\n"
    "check: a monitoring plugin; exits 0 (ok), 1 (warning), 2 (critical), 3 (unknown).\n"
    "Critical while lingerd is down or shows no sign of life.\n"
    "  --warn LIMITS         Warn from there on. Default:\n"
    "                        queue=80,fallbacks=1,evicted=1.\n"
    "  --crit LIMITS         Critical from there on. Default: queue=95.\n"
    "LIMITS is a list that changes the default: queue=PERCENT (of --max-connections, now),\n"
    "fallbacks=PERCENT (of httpd's connections), evicted=N, rejected=N (all three: in the\n"
    "last ten minutes), peers=N (fewer connections from httpd than N, now); off instead of\n"
    "a number turns one off; a number alone is queue's.\n";

struct Arguments {
  std::string socket = Options{}.socket;
  bool json = false;
  bool metrics = false;
  bool openmetrics = false;
  bool explain = false;
  bool version = false;
  bool top = false;
  std::string interval = "1";
  bool check = false;
  std::optional<std::string> warn;
  std::optional<std::string> crit;
};

// Throws CLI::ParseError.
void parse(int argc, char** argv, Arguments& out) {
  CLI::App app;
  app.set_help_flag("-h,--help");
  app.fallthrough();
  app.add_option("--socket", out.socket)->take_last();
  auto* json = app.add_flag("--json", out.json);
  auto* metrics = app.add_flag("--metrics", out.metrics)->excludes(json);
  app.add_flag("--openmetrics", out.openmetrics)->excludes(json)->excludes(metrics);
  app.add_flag("--explain", out.explain);
  app.add_flag("--version", out.version);
  auto* top = app.add_subcommand("top");
  top->set_help_flag();  // the one help above
  top->add_option("--interval", out.interval)->take_last();
  auto* check = app.add_subcommand("check");
  check->set_help_flag();
  check->add_option("--warn", out.warn)->take_last();
  check->add_option("--crit", out.crit)->take_last();
  app.require_subcommand(0, 1);
  app.parse(argc, argv);
  out.top = top->parsed();
  out.check = check->parsed();
}

std::uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

Report look(const std::string& socket) {
  Report report;
  report.socket_path = socket;
  report.now_ns = now_ns();
  report.daemon = read_stats((socket + ".stats").c_str(), report.now_ns);
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
  const double seconds = std::strtod(arguments.interval.c_str(), &end);
  if (end == arguments.interval.c_str() || *end != '\0' || !(seconds >= 0.1 && seconds <= 3600)) {
    return refuse("--interval: '" + arguments.interval +
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
  Report before = look(arguments.socket);
  terminal.draw(live_screen(before, before, style) + "\nq quits\n");
  while (true) {
    if (terminal.wait(static_cast<int>(seconds * 1000)) == Terminal::Event::kQuit) return finish();
    Report now = look(arguments.socket);
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
  if (const std::string bad = limits_of(kDefaultWarn, arguments.warn, warn); !bad.empty()) {
    result = check_unknown("--warn: " + bad);
  } else if (const std::string bad = limits_of(kDefaultCrit, arguments.crit, crit); !bad.empty()) {
    result = check_unknown("--crit: " + bad);
  } else {
    result = check(look(arguments.socket), warn, crit);
  }
  std::puts(result.line.c_str());
  return finish() == 0 ? static_cast<int>(result.status) : static_cast<int>(CheckStatus::kUnknown);
}

int print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  return finish();
}

int run(const Arguments& arguments) {
  if (arguments.version) return print(std::string("lingerctl ") + kVersion + "\n");
  if (arguments.explain) return print(explain_counters());
  if (arguments.check) return run_check(arguments);
  if (arguments.top) return run_top(arguments);
  const Report report = look(arguments.socket);
  if (arguments.json) return print(json(report));
  if (arguments.metrics) return print(metrics(report, MetricsFormat::kPrometheus));
  if (arguments.openmetrics) return print(metrics(report, MetricsFormat::kOpenMetrics));
  return print(screenful(report, terminal_style()));
}

// A plugin that was called wrongly must not look like a warning or a failure of lingerd.
int refuse_arguments(int argc, char** argv, const std::string& why) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "check") != 0) continue;
    std::puts(check_unknown(why + "; lingerctl --help lists the options").line.c_str());
    return static_cast<int>(CheckStatus::kUnknown);
  }
  return refuse(why + "; --help lists the options");
}

}  // namespace
}  // namespace lingerd

int main(int argc, char** argv) {
  using namespace lingerd;
  std::setlocale(LC_CTYPE, "");
  Arguments arguments;
  try {
    parse(argc, argv, arguments);
    return run(arguments);
  } catch (const CLI::CallForHelp&) {
    return print(kHelp);
  } catch (const CLI::ParseError& error) {
    return refuse_arguments(argc, argv, error.what());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "lingerctl: %s\n", error.what());
    return 1;
  }
}
