// SPDX-License-Identifier: Apache-2.0
// The module's directives: values, defaults, merging and parsing.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_tables.h>
#include <http_config.h>

#include <cstdint>

#include "contract/defaults.h"
#include "contract/record.h"

namespace lingerd {

enum class Fallback {
  kInline,  // Apache lingers itself
  kClose,   // the socket is closed at once
};

// What governs one server's connections. Allocated from the configuration's pool.
struct Settings {
  bool enabled = true;
  std::uint32_t idle_ms = kDefaultIdleMs;  // LingerTimeout
  std::uint32_t cap_ms = kDefaultCapMs;    // LingerTime
  Fallback fallback = Fallback::kInline;
  const char* socket_path = kDefaultSocket;             // the main server's counts
  bool offload = false;                                 // LingerOffload
  std::uint64_t offload_max = std::uint64_t{64} << 20;  // bytes of memory per response
  bool offload_files = true;                            // LingerOffloadFiles
  std::uint64_t offload_close = 0;                      // bytes; 0: Off
  std::uint32_t offload_stall_ms = 0;                   // 0: the server's Timeout
  bool keep_alive = false;                              // LingerKeepAlive
  std::uint32_t keep_alive_after_ms = 5;                // LingerKeepAliveAfter
  apr_array_header_t* keep_alive_trust = nullptr;  // LingerKeepAliveTrust, the main server's; char*
  bool request = false;                            // LingerRequest
  std::uint64_t request_body = std::uint64_t{1} << 20;  // LingerRequestBody, bytes; 0: Off
  std::uint32_t request_timeout_ms = 20'000;            // LingerRequestTimeout
  std::uint64_t request_min_rate = 500;                 // LingerRequestMinRate, bytes a second
  struct {
    bool enabled, idle_ms, cap_ms, fallback, socket_path;
    bool offload, offload_files, offload_max, offload_close, offload_stall_ms;
    bool keep_alive, keep_alive_after_ms;
    bool request, request_body, request_timeout_ms, request_min_rate;
  } given{};
};

// As httpd's module record wants them.
void* create_settings(apr_pool_t* pool, server_rec* server);
void* merge_settings(apr_pool_t* pool, void* base, void* added);
extern const command_rec kDirectives[];

[[nodiscard]] const Settings& settings_of(const server_rec* server);

// A record with these settings' durations, of a connection that goes to lingerd now.
[[nodiscard]] Handoff handoff_with(const Settings& settings, std::uint64_t now_ns);

}  // namespace lingerd
