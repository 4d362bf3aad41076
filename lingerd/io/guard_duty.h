// SPDX-License-Identifier: Apache-2.0
// What the guard does (guard.h), in its own process: looks at the loop's beats, and acts when there
// are none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "contract/record.h"
#include "lingerd/core/guard_table.h"

namespace lingerd {

// Which socket that is, whatever its number: SO_COOKIE.
[[nodiscard]] std::uint64_t cookie_of(int socket);

class GuardDuty {
 public:
  GuardDuty(GuardTable& table, GuardedSlot* slots, std::size_t size)
      : table_(&table), slots_(slots), size_(size) {}

  [[noreturn]] void run() const;

 private:
  void send_parked_home() const;
  [[nodiscard]] std::vector<int> find_peers() const;
  [[nodiscard]] bool look_at_queue(int peer) const;
  [[nodiscard]] bool look_at_record(int peer, int offset, const Handoff& handoff) const;

  GuardTable* table_;
  GuardedSlot* slots_;
  std::size_t size_;
};

}  // namespace lingerd
