// SPDX-License-Identifier: Apache-2.0
#include "lingerd/life.h"

#include <unistd.h>

#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "base/errand.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/startup_error.h"
#include "base/unique_fd.h"
#include "contract/stats_page.h"
#include "contract/version.h"
#include "lingerd/core/settings.h"
#include "lingerd/io/closer.h"
#include "lingerd/io/orders.h"
#include "lingerd/start/identity.h"
#include "lingerd/start/options.h"
#include "lingerd/succession/store.h"

namespace lingerd {
namespace {

void say_ready(const Listener& listener, const LoopSettings& settings) {
  log::write(log::Level::kNotice, "%s listens at %s%s, for at most %u sockets from %u processes",
             kVersion, listener.path().c_str(), listener.from_systemd() ? " (systemd's)" : "",
             settings.max_connections, settings.max_peers);
}

// That a successor can't write it (any more) is no reason to drop sockets.
void write_pidfile(const std::string& path, bool inherits, UniqueFd inherited,
                   std::optional<PidFile>& pidfile) {
  if (path.empty()) return;
  try {
    pidfile.emplace(path, std::move(inherited));
  } catch (const StartupError& error) {
    if (!inherits) throw;
    log::write(log::Level::kWarning, "%s", error.what());
  }
}

// The same: as another user than the one that was asked for, but not as root.
void change_user(const std::optional<User>& user, bool inherits) {
  if (!user) return;
  try {
    become(*user);
  } catch (const StartupError& error) {
    if (!inherits || geteuid() == 0) throw;
    log::write(log::Level::kWarning, "%s", error.what());
  }
}

// The check of the program that would be the successor.
bool is_fine(const Errand::Answer& answer) {
  if (answer.status == 0) return true;
  log::write(log::Level::kError, "no successor, going on: its --check-config %s%s%s",
             answer.status == Errand::kTimedOut ? "didn't end within 10 seconds" : "fails",
             answer.text.empty() ? "" : ": ", answer.text.c_str());
  return false;
}

// An errand that is an ordinary fork has what waits to be closed as well, and hangs with it,
// without an answer and for as long as a peer likes.
bool can_send_out(const char* order) {
  if (Errand::closes_nothing() || closer().stuck() == 0 || closer().waiting() == 0) return true;
  log::write(
      log::Level::kError,
      "%s: not now: what a peer has sent can't be closed (its file server doesn't answer: see "
      "LingerClosersStuck); end that peer's process, then try again",
      order);
  return false;
}

}  // namespace

Life::Life(Configuration& configuration, const Program& program, Inheritance inheritance,
           bool inherits)
    : configuration_(configuration), program_(program), inheritance_(std::move(inheritance)) {
  const Options& options = configuration.options();
  write_pidfile(options.pidfile, inherits, std::move(inheritance_.pidfile), pidfile_);
  listener_.emplace(Listener::make(options, configuration.identities(), inheritance_));
}

void Life::run(Luggage luggage, bool inherits, Readiness& readiness) {
  const Identities& identities = configuration_.identities();
  LoopSettings settings = configuration_.loop_settings();
  if (identities.user) settings.page_owner = identities.user->uid;
  Loop loop(settings, listener_->take(), stats_path_of(listener_->path()), luggage.started_ns(),
            started_by_systemd() ? getppid() : 0);
  luggage.move_into(loop);
  loop.show_page();

  // Only now: the socket, the stats page and the pidfile may be in directories of root's.
  change_user(identities.user, inherits);

  loop.begin();
  accept_inheritance(inheritance_);
  if (pidfile_) pidfile_->write();
  say_ready(*listener_, settings);
  readiness.ready();
  notify_ready();
  luggage.settle(loop);
  serve(loop);
}

void Life::serve(Loop& loop) {
  while (const auto order = loop.run()) {
    if (loop.stopping() && *order != Order::kStop) continue;
    switch (*order) {
      case Order::kReload:
        if (!can_send_out("SIGHUP")) {
          notify_reloading();
          notify_reloaded();
          break;
        }
        reloading_ = true;
        loop.send([&] { return configuration_.begin_reload(loop.now()); });
        break;
      case Order::kReplace:
        if (!can_send_out("SIGUSR2")) break;
        reloading_ = false;
        loop.send([&] { return check_program(program_, loop.now()); });
        break;
      case Order::kAnswer:
        if (reloading_) {
          loop.apply(configuration_.finish_reload(loop.answer()));
        } else if (is_fine(loop.answer()) && replace(loop, false)) {
          return loop.leave();
        }
        break;
      case Order::kReplaceAndStop:
        if (replace(loop, true)) return loop.leave();
        // The manager waits for our end, and kills what hasn't ended by TimeoutStopSec=.
        stop(loop);
        break;
      case Order::kStop: stop(loop); break;
    }
  }
}

void Life::stop(Loop& loop) {
  if (!loop.stopping()) {
    notify_stopping();
    listener_->remove_file();
  }
  loop.begin_stop();
}

bool Life::replace(Loop& loop, bool manager_waits) {
  try {
    if (find_successor(pack_up(loop), loop.listener(), manager_waits)) {
      listener_->leave_file();
      return true;
    }
  } catch (const std::exception& problem) {
    log::write(log::Level::kError, "can't hand over, going on: %s", problem.what());
  }
  loop.begin();
  return false;
}

// Everything is packed. systemd's store keeps it for the lingerd that it starts next, or this
// process becomes its own successor.
bool Life::find_successor(const Parcel& parcel, int socket, bool manager_waits) {
  std::string problem;
  const bool stored = started_by_systemd() && store_with_systemd(parcel, problem);
  if (manager_waits) {
    if (stored) return true;
  } else {
    // The store goes on to keep it: if the successor dies, systemd starts another one with it.
    if (!problem.empty()) log::write(log::Level::kWarning, "%s", problem.c_str());
    if (!closer().end_for_exec()) {
      log::write(
          log::Level::kError,
          "no successor, going on: what a peer has sent can't be closed (its file server "
          "doesn't answer: see LingerClosersStuck); end that peer's process, then try again");
      if (stored) empty_the_store();
      return false;
    }
    become_successor({.parcel = parcel,
                      .listener = socket,
                      .listener_is_systemds = listener_->from_systemd(),
                      .pidfile = pidfile_ ? pidfile_->fd() : -1,
                      .stored = stored},
                     program_, problem);
    if (stored) empty_the_store();
  }
  log::write(log::Level::kError, "no successor, going on: %s", problem.c_str());
  return false;
}

}  // namespace lingerd
