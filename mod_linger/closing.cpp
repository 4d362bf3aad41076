// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/closing.h"

#include <httpd.h>  // before the others, which need it

#include <apr_tables.h>

#include <algorithm>

#include "base/clock.h"
#include "mod_linger/child.h"
#include "mod_linger/settings.h"
#include "mod_linger/tally.h"

namespace lingerd {

ClosingSteps& closing_steps() {
  static ClosingSteps steps;
  return steps;
}

Handoff linger_of(const Closing& closing, std::uint64_t now_ns) {
  constexpr std::uint32_t kShortLingerMs = 2'000;  // as httpd's SECONDS_TO_LINGER
  Handoff handoff = handoff_with(closing.settings, now_ns);
  if (apr_table_get(closing.connection->notes, "short-lingering-close") != nullptr) {
    handoff.cap_ms = std::min(handoff.cap_ms, kShortLingerMs);
  }
  return handoff;
}

std::uint64_t note_handed_off(conn_rec* connection, std::uint64_t since_ns) {
  end_apaches_linger(connection);
  const std::uint64_t took_ns = monotonic_ns() - since_ns;
  this_child().tally->count_handoff(since_ns, took_ns);
  announce_up();
  return took_ns;
}

}  // namespace lingerd
