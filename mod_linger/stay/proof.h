// SPDX-License-Identifier: Apache-2.0
// What proves of a connection that comes back that this httpd has parked it, and that it has come
// through one of this httpd's listeners before. Two locks: the tag keeps out everybody without the
// key; the listeners, a child of this httpd's own that has been taken over and knows it.
//
// lingerd is told what to send back by every process that may write to its socket. So the child
// that parks signs which socket it is, and the child that takes it back checks that, and its
// listeners: the record's word for the client's address, or the bringer's, counts for nothing.
// In turn a good connection is served even if it isn't clear which process brings it.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_network_io.h>
#include <apr_pools.h>

#include <cstdint>
#include <optional>

#include "contract/record.h"
#include "mod_linger/stay/return_tag.h"

namespace lingerd {

// Hook: child_init.
void learn_listeners(apr_pool_t* child_pool, server_rec* server);

// Of a connection that is to be parked. Nothing: it wouldn't be let in again, so it must stay.
[[nodiscard]] std::optional<SocketIdentity> identity_of(conn_rec* connection, int socket);
// `stay`: as of tag_of().
[[nodiscard]] std::uint64_t tag_for(const SocketIdentity& socket, std::uint32_t keepalives,
                                    std::uint32_t keepalive_ms, std::uint64_t stay);

enum class Proof {
  kGood,
  kReset,       // the client has gone meanwhile, and with it the addresses
  kForged,      // no connection, or none that this httpd has parked
  kElsewhere,   // parked by this httpd, but of another network namespace
  kNoListener,  // parked by this httpd, but none of its listeners could have accepted it
};

struct Proven {
  Proof proof = Proof::kForged;
  SocketIdentity socket{};
  std::uint64_t stay = 0;  // of one over TLS; 0: it isn't. Not claimed yet
};

// Of a connection that has come back. `socket` is APR's view of `fd`.
[[nodiscard]] Proven prove(apr_socket_t* socket, int fd, const Return& back);

}  // namespace lingerd
