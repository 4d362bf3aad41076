// SPDX-License-Identifier: Apache-2.0
// The module's directives.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <http_config.h>

#include <cstdint>

namespace lingerd::tls {

struct Settings {
  bool on = false;              // LingerKeepAliveTLS
  std::uint32_t after_ms = 20;  // LingerKeepAliveTLSAfter
  bool on_given = false;
  bool after_given = false;
};

// As httpd's module record wants them.
void* create_settings(apr_pool_t* pool, server_rec* server);
void* merge_settings(apr_pool_t* pool, void* base, void* added);
extern const command_rec kDirectives[];

[[nodiscard]] const Settings& settings_of(const server_rec* server);

// Whether any server has it On.
[[nodiscard]] bool is_wanted(const server_rec* servers);

}  // namespace lingerd::tls
