// SPDX-License-Identifier: Apache-2.0
// What one httpd process knows: the shared tally, and in a child its connection to lingerd.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <cstdint>

#include "base/clock.h"
#include "mod_linger/link/client.h"
#include "mod_linger/link/obstacle.h"
#include "mod_linger/tally.h"

namespace lingerd {

struct Child {
  server_rec* main_server = nullptr;
  const char* socket_path = "";  // set before any use, as the next one
  const char* stats_path = "";
  Tally::Place place = 0;                 // which of httpd's LingerSockets so far that is
  Tally* tally = nullptr;                 // null: no shared memory, Apache lingers itself
  Client* client = nullptr;               // null in the parent
  std::uint64_t (*kept_tls)() = nullptr;  // linger_tls_module's states; null: it isn't there
};
[[nodiscard]] Child& this_child();

// Hooks: post_config finds the tally, child_init connects.
int prepare(apr_pool_t* config_pool, apr_pool_t* log_pool, apr_pool_t* temp_pool,
            server_rec* server);
void start_child(apr_pool_t* child_pool, server_rec* server);

// Logs a change of lingerd's state, once among all children. `error` is an errno, or 0.
void announce(Obstacle obstacle, int error, std::uint64_t now_ns);
void log_back(const Tally::Change& change);

inline void announce_up() {
  if (const auto change = this_child().tally->found_up(this_child().place)) log_back(*change);
}

// event: idle connections wait without a worker.
[[nodiscard]] bool mpm_is_async();

// Where lingerd publishes its numbers.
[[nodiscard]] const char* stats_path();

}  // namespace lingerd
