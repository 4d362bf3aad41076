// SPDX-License-Identifier: Apache-2.0
// lingerd's life, between its first socket and its last.
#pragma once

#include <optional>

#include "lingerd/io/loop.h"
#include "lingerd/start/configuration.h"
#include "lingerd/start/daemonize.h"
#include "lingerd/start/listener.h"
#include "lingerd/succession/inheritance.h"
#include "lingerd/succession/luggage.h"
#include "lingerd/succession/parcel.h"
#include "lingerd/succession/successor.h"

namespace lingerd {

class Life {
 public:
  // Throws StartupError if the pidfile can't be written or the socket can't be bound.
  Life(Configuration& configuration, const Program& program, Inheritance inheritance,
       bool inherits);

  // Until it is stopped, or a successor has everything.
  void run(Luggage luggage, bool inherits, Readiness& readiness);

 private:
  void serve(Loop& loop);
  void stop(Loop& loop);
  [[nodiscard]] bool replace(Loop& loop, bool manager_waits);
  [[nodiscard]] bool find_successor(const Parcel& parcel, int socket, bool manager_waits);

  Configuration& configuration_;
  const Program& program_;
  Inheritance inheritance_;
  // What is bound, written and mapped goes away in the reverse order, at the end of life.
  std::optional<PidFile> pidfile_;
  std::optional<Listener> listener_;
  bool reloading_ = false;  // what the errand is for; else a successor is looked at
};

}  // namespace lingerd
