// SPDX-License-Identifier: Apache-2.0
// lingerd, from its command line to its exit status.
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "base/errand.h"
#include "base/log.h"
#include "base/startup_error.h"
#include "base/unique_fd.h"
#include "lingerd/io/orders.h"
#include "lingerd/life.h"
#include "lingerd/start/command_line.h"
#include "lingerd/start/configuration.h"
#include "lingerd/start/daemonize.h"
#include "lingerd/start/options.h"
#include "lingerd/succession/inheritance.h"
#include "lingerd/succession/luggage.h"
#include "lingerd/succession/parcel.h"
#include "lingerd/succession/successor.h"

namespace lingerd {
namespace {

// A parcel that this many lingerds have died of isn't opened again.
constexpr std::uint32_t kMostAttempts = 3;

// Whatever is opened next would take the place of one that is closed: the log's lines would go to a
// client, or into the stats page.
void open_standard_descriptors() {
  int fd = -1;
  do {
    fd = open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  UniqueFd(fd).reset();
}

// Those of the loop wait for it. No other signal whose default is to end or stop the process may do
// so: what scripts send by habit (to open a log again), what a terminal sends, a peer that is gone,
// a page that would be larger than RLIMIT_FSIZE. SIGTSTP, SIGCONT and SIGSTOP are an operator's
// wish, SIGCHLD has no effect, and the rest are faults of this process.
void arrange_signals() {
  for (const int signal : {SIGPIPE, SIGALRM, SIGVTALRM, SIGPROF, SIGWINCH, SIGTTIN, SIGTTOU, SIGIO,
                           SIGPWR, SIGURG, SIGXCPU, SIGXFSZ, SIGSTKFLT}) {
    std::signal(signal, SIG_IGN);
  }
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal) std::signal(signal, SIG_IGN);
  sigset_t of_the_loop;
  sigemptyset(&of_the_loop);
  for (const int signal : kLoopSignals) sigaddset(&of_the_loop, signal);
  sigprocmask(SIG_BLOCK, &of_the_loop, nullptr);
}

std::optional<Unpacked> open_parcel(Inheritance& inheritance) {
  if (!inheritance.parcel) return std::nullopt;
  Unpacked unpacked = unpack(*inheritance.parcel);
  if (unpacked.attempts <= kMostAttempts) return unpacked;
  log::write(log::Level::kError,
             "%u lingerds have ended with the sockets that came with the start: letting go of them",
             unpacked.attempts - 1);
  return std::nullopt;
}

// A lingerd that has inherited sockets doesn't end because of a typo.
Configuration configure(const CommandLine& command_line, const std::optional<Unpacked>& parcel) {
  const std::uint64_t nofile = raise_descriptor_limit();
  try {
    Configuration configuration(command_line, nofile);
    if (parcel) configuration.compare_with(parcel->configuration);
    return configuration;
  } catch (const StartupError& error) {
    if (!parcel || parcel->configuration.empty()) throw;
    return Configuration::inherited(command_line, nofile, parcel->configuration, error.what());
  }
}

int fail(Readiness& readiness, ExitStatus status, const std::string& why) {
  // In the background both: the shell that waits, and the log that stays.
  readiness.failed(status, why);
  log::write(log::Level::kError, "%s", why.c_str());
  return static_cast<int>(status);
}

int check(const CommandLine& command_line) {
  try {
    const Configuration configuration(command_line, raise_descriptor_limit());
    std::puts("lingerd: configuration is fine");
    return 0;
  } catch (const StartupError& error) {
    log::write(log::Level::kError, "%s", error.what());
    return static_cast<int>(error.status());
  }
}

int run(const CommandLine& command_line, const Program& program) {
  Readiness readiness;
  try {
    arrange_signals();
    Inheritance inheritance = take_inheritance();
    Errand::reserve(raise_descriptor_limit());
    std::optional<Unpacked> unpacked = open_parcel(inheritance);
    // In the background already, and what may be wrong has to be said somewhere.
    if (unpacked && unpacked->configuration.find("daemon = yes\n") != std::string::npos) {
      log::to_syslog();
    }
    Configuration configuration = configure(command_line, unpacked);
    if (configuration.options().daemon) {
      if (!inheritance.by_exec) readiness = daemonize();
      log::to_syslog();
    }
    if (!inheritance.rolled_back.empty()) {
      log::write(log::Level::kError, "the successor failed, %s: the lingerd before it goes on",
                 inheritance.rolled_back.c_str());
    }
    const bool inherits = unpacked.has_value();
    Luggage luggage(std::move(unpacked));
    Life life(configuration, program, std::move(inheritance), inherits);
    life.run(std::move(luggage), inherits, readiness);
    return 0;
  } catch (const StartupError& error) {
    return fail(readiness, error.status(), error.what());
  } catch (const std::exception& error) {
    return fail(readiness, ExitStatus::kFailure, error.what());
  }
}

}  // namespace
}  // namespace lingerd

int main(int argc, char** argv) {
  using namespace lingerd;
  open_standard_descriptors();
  const Program program = this_program(argv);
  const CommandLine command_line = parse_command_line(argc, argv);
  switch (command_line.action) {
    case Action::kPrint:
      std::fputs(command_line.text.c_str(), stdout);
      return static_cast<int>(ExitStatus::kOk);
    case Action::kCheckConfig: return check(command_line);
    // Refused with what is wrong, unless there are sockets to go on with.
    case Action::kRefuse:
    case Action::kRun: return run(command_line, program);
  }
}
