// SPDX-License-Identifier: Apache-2.0
// The tables of the section: what became of connections, and how each stay in lingerd ended. A
// feature's table is there where it has done something: most sites leave most of them off. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "contract/counters.h"

namespace lingerd {

[[nodiscard]] inline const CounterInfo& info(DaemonCounter c) {
  return kDaemonCounterInfo[static_cast<std::size_t>(c)];
}

// As HTML's text, or an attribute's value.
[[nodiscard]] std::string escaped(std::string_view text);

void daemon_tables(std::string& out, const DaemonCounters& counters);
void module_table(std::string& out, const ModuleCounters& counters);

}  // namespace lingerd
