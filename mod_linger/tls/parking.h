// SPDX-License-Identifier: Apache-2.0
// What mod_linger and linger_tls_module (mod_linger_tls.so) know of each other. mod_linger parks
// connections, and takes them back; with those of mod_ssl's it asks the other module, which knows
// TLS: may it go, what has to be kept meanwhile, and is what comes back to be believed. mod_linger
// works without it, and then leaves TLS connections with their workers.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_network_io.h>
#include <apr_optional.h>

#include <cstdint>
#include <span>

#include "contract/counters.h"

namespace lingerd {

// What a stay is bound to: the same when the connection comes back, and of no other.
struct TlsBinding {
  std::uint64_t cookie = 0;                     // SO_COOKIE
  std::span<const unsigned char> connection{};  // cookie and both addresses, byte by byte
};

struct TlsClaim {
  enum class Result {
    kGood,
    kOver,     // nothing is wrong, but it isn't gone on with: the client may make a new connection
    kRefused,  // it came twice, or with what isn't its own
  };
  Result result = Result::kGood;
  const char* why = "";  // in words for the log
};

// Nothing throws.
struct TlsParking {
  // It is a connection of mod_ssl's with which this module could go on.
  bool (*knows)(conn_rec* connection);
  // LingerKeepAliveTLS of the request's server.
  bool (*wants)(const request_rec* request);
  // LingerKeepAliveTLSAfter.
  std::uint32_t (*after_ms)(const server_rec* server);
  // Why it can't be parked now, in words for the log; null: it can.
  const char* (*objection)(conn_rec* connection);

  // Keeps its state, sealed. The stay's id, which nobody can guess; 0: it isn't kept, for want of
  // room. `until_ns`: CLOCK_MONOTONIC, from when on nobody will ask for it.
  std::uint64_t (*deposit)(conn_rec* connection, const TlsBinding& binding, std::uint64_t until_ns);
  // The record has been sent: from here on this process writes and reads nothing any more.
  void (*left)(conn_rec* connection);
  // It has certainly not been sent, and the connection goes on here. False: somebody has claimed
  // the stay all the same; then it doesn't.
  bool (*take_back)(std::uint64_t cookie, std::uint64_t stay);

  // The last stay of this socket, whether it is over or not; 0: none.
  std::uint64_t (*stay_of)(std::uint64_t cookie);
  // Each stay ends once; then its state waits in `socket` for the connection that the core makes
  // of it.
  TlsClaim (*claim)(apr_socket_t* socket, const TlsBinding& binding, std::uint64_t stay);

  // How many states are kept.
  std::uint64_t (*kept)();
};

// And the other way.
struct LingerSide {
  void (*count)(ModuleCounter counter, std::uint64_t by);
  // Whether anything is parked at all, with this MPM and these modules.
  bool (*may_be_parked)();
};

// Told in each configuration, from post_config. Its name changes with what is above: both modules
// are of one version, or don't know each other.
APR_DECLARE_OPTIONAL_FN(const LingerSide*, linger_tls_parking_1, (const TlsParking* parking));

}  // namespace lingerd
