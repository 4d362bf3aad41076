// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/proof.h"

#include <httpd.h>  // before the others, which need it

#include <ap_listen.h>
#include <apr_portable.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "mod_linger/stay/endpoint.h"
#include "mod_linger/stay/listener.h"
#include "mod_linger/stay/over_tls.h"
#include "mod_linger/stay/own_listeners.h"
#include "mod_linger/stay/return_tag.h"
#include "mod_linger/tls/parking.h"

namespace lingerd {
namespace {

OwnListeners& own_listeners() {
  static OwnListeners listeners;
  return listeners;
}

std::optional<Endpoint> endpoint(const apr_sockaddr_t* address) {
  if (address == nullptr) return std::nullopt;
  return endpoint_of(reinterpret_cast<const sockaddr*>(&address->sa));
}

std::optional<Endpoint> endpoint(apr_socket_t* socket, apr_interface_e which) {
  apr_sockaddr_t* address = nullptr;
  if (apr_socket_addr_get(&address, which, socket) != APR_SUCCESS) return std::nullopt;
  return endpoint(address);
}

bool is_tcp(int fd) {
  constexpr int kMultipath = 262;  // IPPROTO_MPTCP, which older headers don't know
  int protocol = 0;
  socklen_t size = sizeof protocol;
  return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 &&
         (protocol == IPPROTO_TCP || protocol == kMultipath);
}

}  // namespace

void learn_listeners(apr_pool_t*, server_rec*) {
  own_listeners().clear();
  for (const ap_listen_rec* each = ap_listeners; each != nullptr; each = each->next) {
    apr_os_sock_t fd = -1;
    if (each->sd != nullptr && apr_os_sock_get(&fd, each->sd) == APR_SUCCESS && fd >= 0) {
      own_listeners().add(fd);
    }
  }
}

std::optional<SocketIdentity> identity_of(conn_rec* connection, int socket) {
  const auto local = endpoint(connection->local_addr);
  const auto client = endpoint(connection->client_addr);
  const auto cookie = cookie_of(socket);
  // A listener that a BPF program has steered a connection to doesn't match its address.
  if (return_key() == nullptr || !local || !client || !cookie ||
      !own_listeners().could_accept(*local)) {
    return std::nullopt;
  }
  return SocketIdentity{*cookie, *local, *client};
}

std::uint64_t tag_for(const SocketIdentity& socket, std::uint32_t keepalives,
                      std::uint32_t keepalive_ms, std::uint64_t stay) {
  return tag_of({socket, keepalives, keepalive_ms}, *return_key(), stay);
}

Proven prove(apr_socket_t* socket, int fd, const Return& back) {
  const ReturnKey* key = return_key();
  const auto cookie = cookie_of(fd);
  if (key == nullptr || !cookie || !is_tcp(fd)) return {Proof::kForged};
  const auto local = endpoint(socket, APR_LOCAL);
  const auto client = endpoint(socket, APR_REMOTE);
  // A socket that listens, or never was connected, has no client either: it gets no further.
  if (!local || !client) return {Proof::kReset};
  Proven proven{Proof::kGood, {*cookie, *local, *client}};
  if (const TlsParking* tls = tls_parking()) proven.stay = tls->stay_of(*cookie);
  if (tag_for(proven.socket, back.keepalives, back.keepalive_ms, proven.stay) != back.tag) {
    return {Proof::kForged};
  }
  if (!own_listeners().could_accept(*local)) return {Proof::kNoListener};
  if (!own_listeners().could_accept(*local, network_of(fd))) return {Proof::kElsewhere};
  return proven;
}

}  // namespace lingerd
