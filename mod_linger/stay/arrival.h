// SPDX-License-Identifier: Apache-2.0
// What lingerd, or somebody else, says at the private listener: one message with a client's socket.
// Without httpd.
#pragma once

#include "base/unique_fd.h"
#include "contract/record.h"

namespace lingerd {

struct Arrival {
  enum class What {
    kClient,        // `client` and `back` are as they came; nothing of them is proven yet
    kHungUp,        // without a word. lingerd does that: to try the way, or where it must try again
    kNothing,       // nothing came in time
    kGarbage,       // no record
    kNoDescriptor,  // a record, but its descriptor got lost
  };
  What what = What::kNothing;
  UniqueFd client;
  Return back;
};

// Waits for the message, for at most `wait_ms`.
[[nodiscard]] Arrival receive_arrival(int socket, int wait_ms);

}  // namespace lingerd
