// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/features.h"

#include <httpd.h>  // before the others, which need it

#include "mod_linger/settings.h"

namespace lingerd {

const char* Features::have() const {
  if (keep_alive && request) return "LingerKeepAlive and LingerRequest have";
  return keep_alive ? "LingerKeepAlive has" : "LingerRequest has";
}

const char* Features::stop() const {
  if (keep_alive && request) return "LingerKeepAlive and LingerRequest stop";
  return keep_alive ? "LingerKeepAlive stops" : "LingerRequest stops";
}

Features features_of(const server_rec* servers) {
  Features features;
  for (const server_rec* server = servers; server != nullptr; server = server->next) {
    const Settings& settings = settings_of(server);
    features.keep_alive = features.keep_alive || (settings.enabled && settings.keep_alive);
    features.request = features.request || (settings.enabled && settings.request);
  }
  return features;
}

}  // namespace lingerd
