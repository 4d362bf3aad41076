// SPDX-License-Identifier: Apache-2.0
// A connection's end: what the hand-off knows of it, and the steps that are features' own. Each
// feature that has a step fills it in when it registers its hooks; the hand-off knows no more of
// it.
#pragma once

#include <httpd.h>

#include <cstdint>

#include "contract/record.h"

namespace lingerd {

struct Connection;
struct Settings;

struct Closing {
  conn_rec* connection;
  Connection& ours;
  const server_rec* server;  // of the last request, as are its settings
  const Settings& settings;
  int fd;  // -1: it has none any more. An ungraceful stop closes it, from another thread
};

// What has become of the bytes that the client hasn't got yet.
enum class RestIs {
  kNone,   // sent: the socket goes the usual way
  kGiven,  // lingerd's, and so is the socket
  kLost,   // and the client with it
};

struct ClosingSteps {
  // lingerd takes the socket as an idle connection: there is nothing to close.
  bool (*goes_instead)(conn_rec* connection, Connection& ours) = nullptr;
  RestIs (*part_with_rest)(Closing& closing) = nullptr;
  // The socket is out of our hands: what has been kept for that comes now.
  void (*end_request)(Closing& closing, bool lost) = nullptr;
};
[[nodiscard]] ClosingSteps& closing_steps();

// The record of this connection's linger.
[[nodiscard]] Handoff linger_of(const Closing& closing, std::uint64_t now_ns);

// What ends Apache's own lingering close: prefork, worker and event then close their copy at once.
// Nothing else does: the core has fetched the socket before it runs this hook, and ignores what the
// hook returns.
inline void end_apaches_linger(conn_rec* connection) {
  connection->aborted = 1;
}

// lingerd has got the socket. How long that took.
std::uint64_t note_handed_off(conn_rec* connection, std::uint64_t since_ns);

}  // namespace lingerd
