// SPDX-License-Identifier: Apache-2.0
// lingerd's life, from its command line to its exit status.
#include <csignal>
#include <cstdio>
#include <exception>
#include <optional>

#include "lingerd/command_line.h"
#include "lingerd/configuration.h"
#include "lingerd/daemonize.h"
#include "lingerd/listener.h"
#include "lingerd/log.h"
#include "lingerd/loop.h"
#include "lingerd/notify.h"
#include "lingerd/startup_error.h"
#include "lingerd/version.h"

namespace lingerd {
namespace {

// A peer that is gone is an error of a system call, not a signal; the others are the loop's, which
// reads them from a descriptor.
void arrange_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t of_the_loop;
  sigemptyset(&of_the_loop);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&of_the_loop, signal);
  sigprocmask(SIG_BLOCK, &of_the_loop, nullptr);
}

void say_ready(const Listener& listener, const LoopSettings& settings) {
  log::write(log::Level::kNotice, "%s listens at %s%s, for at most %u sockets from %u processes",
             kVersion, listener.path().c_str(), listener.from_systemd() ? " (systemd's)" : "",
             settings.max_connections, settings.max_peers);
}

void serve(Configuration& configuration, Readiness& readiness) {
  const Options& options = configuration.options();

  // What is bound, written and mapped here goes away in the reverse order, at the end of life.
  std::optional<PidFile> pidfile;
  if (!options.pidfile.empty()) pidfile.emplace(options.pidfile);
  Listener listener = Listener::make(options, configuration.identities());
  Loop loop(configuration.loop_settings(), listener.take(), listener.path() + ".stats");

  // Only now: the socket, the stats page and the pidfile may be in directories of root's.
  if (configuration.identities().user) become(*configuration.identities().user);

  loop.on_reload([&] { return configuration.reload(); });
  loop.on_ready([&] {
    say_ready(listener, configuration.loop_settings());
    readiness.ready();
    notify_ready();
  });
  loop.on_stopping([&] {
    notify_stopping();
    listener.remove_file();
  });
  loop.run();
}

int fail(Readiness& readiness, ExitStatus status, const std::string& why) {
  // In the background both: the shell that waits, and the log that stays.
  readiness.failed(status, why);
  log::write(log::Level::kError, "%s", why.c_str());
  return static_cast<int>(status);
}

int run(const CommandLine& command_line) {
  Readiness readiness;
  try {
    Configuration configuration(command_line, raise_descriptor_limit());
    if (command_line.action == Action::kCheckConfig) {
      std::puts("lingerd: configuration is fine");
      return 0;
    }
    arrange_signals();
    if (configuration.options().daemon) {
      readiness = daemonize();
      log::to_syslog();
    }
    serve(configuration, readiness);
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
  const CommandLine command_line = parse_command_line(argc, argv);
  switch (command_line.action) {
    case Action::kPrint:
      std::fputs(command_line.text.c_str(), stdout);
      return static_cast<int>(ExitStatus::kOk);
    case Action::kRefuse:
      std::fprintf(stderr, "lingerd: %s\n", command_line.text.c_str());
      return static_cast<int>(ExitStatus::kBadArgument);
    case Action::kRun:
    case Action::kCheckConfig:
      return run(command_line);
  }
}
