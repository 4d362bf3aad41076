// SPDX-License-Identifier: Apache-2.0
// For each way back (httpd's private listener), which connections wait there: idle ones, and those
// that have a request and are not taken yet, in line. httpd takes as many as its listen queue has
// room for. Only the first of a line tries; when it is refused nobody else tries there until a
// moment later, so that nobody overtakes, and a line costs the same however long it is. Pure: the
// time is an argument.
//
// "httpd has taken none for 10 s" is known of the line, not of each connection in it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "lingerd/core/deadlines.h"

namespace lingerd {

// One of httpd's private listeners, as ParkOps numbers them: small numbers.
using AddressId = std::uint32_t;

class ReturnLines {
 public:
  // A refused line tries again after 1, 2, 4 … ms, and from the start when one was taken.
  static constexpr std::uint32_t kFirstRetryMs = 1;
  static constexpr std::uint32_t kLongestRetryMs = 64;

  // `id`, which is in neither list, waits idle; or goes to the end of the line.
  void wait(AddressId address, SocketId id);
  void line_up(AddressId address, SocketId id);
  void leave(SocketId id);

  [[nodiscard]] bool in_line(SocketId id) const { return links_[id].in_line; }
  [[nodiscard]] std::optional<SocketId> first(AddressId address) const;
  // Any one that waits there, idle or in line.
  [[nodiscard]] std::optional<SocketId> any(AddressId address) const;

  // What came of the first one's attempt. One that was taken lets the next one try at once.
  void taken(AddressId address, MonoMillis now);
  void refused(AddressId address, MonoMillis now);
  [[nodiscard]] MonoMillis last_taken(AddressId address) const { return ways_[address].last_taken; }

  // The next line after `address` (of all, in turn) that may try again by `now`.
  [[nodiscard]] std::optional<AddressId> due_after(AddressId address, MonoMillis now) const;
  [[nodiscard]] std::optional<MonoMillis> next_retry() const;

  // The last one of some line that `is_meant`; nothing if nobody is.
  template <typename IsMeant>
  [[nodiscard]] std::optional<SocketId> last_of_any(IsMeant is_meant) const {
    for (const Way& way : ways_) {
      for (SocketId id = way.line.tail; id != kNone; id = links_[id].prev) {
        if (is_meant(id)) return id;
      }
    }
    return std::nullopt;
  }

 private:
  static constexpr SocketId kNone = 0xffffffff;
  struct Link {
    SocketId prev = kNone;
    SocketId next = kNone;
    AddressId address : 31 = 0;
    AddressId in_line : 1 = 0;
  };
  struct List {
    SocketId head = kNone;
    SocketId tail = kNone;
  };
  struct Way {
    List idle;
    List line;
    MonoMillis last_taken = 0;
    MonoMillis retry_at = 0;
    std::uint32_t retry_ms = 0;
  };
  List& list_of(SocketId id);
  void append(AddressId address, SocketId id, bool in_line);
  Way& way(AddressId address);

  std::vector<Link> links_;
  std::vector<Way> ways_;
  std::size_t in_lines_ = 0;
};

}  // namespace lingerd
