// SPDX-License-Identifier: Apache-2.0
// The features that give connections to lingerd for a while: which of them a configuration wants.
#pragma once

#include <httpd.h>

namespace lingerd {

struct Features {
  bool keep_alive = false;  // LingerKeepAlive
  bool request = false;     // LingerRequest

  [[nodiscard]] bool any() const { return keep_alive || request; }
  // For the log: "LingerKeepAlive has", "LingerKeepAlive and LingerRequest have".
  [[nodiscard]] const char* have() const;
  // "LingerKeepAlive stops".
  [[nodiscard]] const char* stop() const;
};

// On in any server.
[[nodiscard]] Features features_of(const server_rec* servers);

}  // namespace lingerd
