// SPDX-License-Identifier: Apache-2.0
// Which connections could have come through this httpd's listeners: by their local address and
// port, and by their network namespace. Without httpd.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "mod_linger/stay/endpoint.h"

namespace lingerd {

// Of the socket's network namespace; nothing before Linux 5.14, which doesn't tell.
[[nodiscard]] std::optional<std::uint64_t> network_of(int socket);

class OwnListeners {
 public:
  void clear() { listeners_.clear(); }
  // A listening socket; what isn't one of IPv4 or IPv6 is left out.
  void add(int socket);

  // Whether one of them could have accepted a connection to `local`.
  [[nodiscard]] bool could_accept(const Endpoint& local) const;
  // The same of a connection in this network namespace.
  [[nodiscard]] bool could_accept(const Endpoint& local,
                                  std::optional<std::uint64_t> network) const;

 private:
  struct Listener {
    Endpoint at;
    bool takes_ipv4 = false;    // an IPv6 socket that takes IPv4 as well
    bool takes_others = false;  // IP_TRANSPARENT: connections to foreign addresses and ports
    std::optional<std::uint64_t> network;

    [[nodiscard]] bool takes(const Endpoint& local) const;
  };
  std::vector<Listener> listeners_;
};

}  // namespace lingerd
