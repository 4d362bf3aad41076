// SPDX-License-Identifier: Apache-2.0
// lingerd's life, from its command line to its exit status.
#include <csignal>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "lingerd/command_line.h"
#include "lingerd/configuration.h"
#include "lingerd/daemonize.h"
#include "lingerd/handover.h"
#include "lingerd/listener.h"
#include "lingerd/log.h"
#include "lingerd/loop.h"
#include "lingerd/notify.h"
#include "lingerd/startup_error.h"
#include "lingerd/takeover.h"
#include "lingerd/version.h"

namespace lingerd {
namespace {

// A peer that is gone is an error of a system call, not a signal; the others are the loop's, which
// reads them from a descriptor.
void arrange_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t of_the_loop;
  sigemptyset(&of_the_loop);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR2}) sigaddset(&of_the_loop, signal);
  sigprocmask(SIG_BLOCK, &of_the_loop, nullptr);
}

void say_ready(const Listener& listener, const LoopSettings& settings) {
  log::write(log::Level::kNotice, "%s listens at %s%s, for at most %u sockets from %u processes",
             kVersion, listener.path().c_str(), listener.from_systemd() ? " (systemd's)" : "",
             settings.max_connections, settings.max_peers);
}

// The program that this is now, and how it was called: what an upgrade puts there takes over.
struct Invocation {
  std::string binary;
  char** arguments;
};

// Between two processes. The pidfile is the successor's from now on, or ours again.
bool give_all(const UniqueFd& successor, const Listener& listener, std::optional<PidFile>& pidfile,
              const Parcel& parcel, int socket, std::string& problem) {
  if (pidfile) pidfile->leave();
  if (give(successor, parcel, socket, listener.from_systemd(), problem)) return true;
  if (!pidfile) return false;
  const std::string path = pidfile->path();
  try {
    pidfile.emplace(path);
  } catch (const StartupError& error) {
    log::write(log::Level::kWarning, "%s", error.what());
  }
  return false;
}

// SIGUSR2: systemd keeps everything for the lingerd that it starts next; without systemd a lingerd
// that waits for it takes over, or this process becomes its own successor.
bool replace(const Invocation& invocation, const Listener& listener,
             std::optional<PidFile>& pidfile, const Parcel& parcel, int socket) {
  std::string problem;
  if (started_by_systemd()) {
    if (store_with_systemd(parcel, problem)) return true;
  } else if (const UniqueFd successor = successor_at(listener.path())) {
    if (give_all(successor, listener, pidfile, parcel, socket, problem)) return true;
  } else {
    become_successor(parcel, socket, invocation.binary, invocation.arguments, problem);
  }
  log::write(log::Level::kError, "no successor, going on: %s", problem.c_str());
  return false;
}

// A successor's pidfile names it already; that it can't be written (any more) is no reason to drop
// sockets.
void write_pidfile(const std::string& path, std::optional<PidFile>& pidfile) {
  if (path.empty()) return;
  try {
    pidfile.emplace(path);
  } catch (const StartupError& error) {
    if (!is_successor()) throw;
    log::write(log::Level::kWarning, "%s", error.what());
  }
}

void serve(Configuration& configuration, const Invocation& invocation, Inheritance inheritance,
           std::optional<Predecessor> predecessor, Readiness& readiness) {
  const Options& options = configuration.options();

  // What is bound, written and mapped here goes away in the reverse order, at the end of life.
  std::optional<PidFile> pidfile;
  write_pidfile(options.pidfile, pidfile);
  Listener listener = Listener::make(options, configuration.identities(), inheritance);
  if (predecessor) listener.leave_file();  // until it says that it lets go
  std::optional<Parcel> parcel;
  if (inheritance.has_parcel()) parcel = inheritance.take_parcel();
  Loop loop(configuration.loop_settings(), listener.take(), listener.path() + ".stats",
            std::move(parcel));

  // Only now: the socket, the stats page and the pidfile may be in directories of root's.
  if (configuration.identities().user) become(*configuration.identities().user);

  loop.on_reload([&] { return configuration.reload(); });
  loop.on_ready([&] {
    if (predecessor) {
      predecessor->dismiss();
      listener.own_file();
    }
    say_ready(listener, configuration.loop_settings());
    readiness.ready();
    notify_ready();
  });
  loop.on_stopping([&] {
    notify_stopping();
    listener.remove_file();
  });
  loop.on_replace([&](const Parcel& everything, int socket) {
    if (!replace(invocation, listener, pidfile, everything, socket)) return false;
    listener.leave_file();
    return true;
  });
  loop.run();
}

int fail(Readiness& readiness, ExitStatus status, const std::string& why) {
  // In the background both: the shell that waits, and the log that stays.
  readiness.failed(status, why);
  log::write(log::Level::kError, "%s", why.c_str());
  return static_cast<int>(status);
}

int run(const CommandLine& command_line, const Invocation& invocation) {
  Readiness readiness;
  try {
    Configuration configuration(command_line, raise_descriptor_limit());
    if (command_line.action == Action::kCheckConfig) {
      std::puts("lingerd: configuration is fine");
      return 0;
    }
    arrange_signals();
    Inheritance inheritance = take_inheritance();
    std::optional<Predecessor> predecessor;
    if (command_line.takeover && !inheritance.listener) {
      predecessor = Predecessor::ask(configuration.options().socket, inheritance);
    }
    if (configuration.options().daemon) {
      if (!is_successor()) readiness = daemonize();
      log::to_syslog();
    }
    serve(configuration, invocation, std::move(inheritance), std::move(predecessor), readiness);
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
  const Invocation invocation{own_binary(), argv};
  const CommandLine command_line = parse_command_line(argc, argv);
  switch (command_line.action) {
    case Action::kPrint:
      std::fputs(command_line.text.c_str(), stdout);
      return static_cast<int>(ExitStatus::kOk);
    case Action::kRefuse:
      std::fprintf(stderr, "lingerd: %s\n", command_line.text.c_str());
      return static_cast<int>(ExitStatus::kBadArgument);
    case Action::kRun:
    case Action::kCheckConfig: return run(command_line, invocation);
  }
}
