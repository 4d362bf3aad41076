// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/come_back.h"

#include <httpd.h>  // before the others, which need it

#include <apr_network_io.h>
#include <apr_portable.h>
#include <apr_strings.h>
#include <fcntl.h>
#include <http_core.h>
#include <http_log.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <new>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "base/unix_socket.h"
#include "contract/counters.h"
#include "contract/record.h"
#include "mod_linger/child.h"
#include "mod_linger/connection.h"
#include "mod_linger/module.h"
#include "mod_linger/settings.h"
#include "mod_linger/stay/arrival.h"
#include "mod_linger/stay/known_lingerds.h"
#include "mod_linger/stay/listener.h"
#include "mod_linger/stay/over_tls.h"
#include "mod_linger/stay/permit.h"
#include "mod_linger/stay/proof.h"
#include "mod_linger/tls/parking.h"

namespace lingerd {
namespace {

constexpr char kKey[] = "mod_linger return";
// lingerd sends at once. This is how long a child waits for one that the scheduler has put aside,
constexpr int kReceiveMs = 1'000;
// and for another program, which may be a lingerd that can't be told from others.
constexpr int kReceiveFromOthersMs = 100;
constexpr std::uint64_t kLogPeriodNs = 1'000'000'000;  // of strangers, in each child

#if APR_HAVE_SOCKADDR_UN

apr_sockaddr_t* local_address(apr_socket_t* socket) {
  apr_sockaddr_t* address = nullptr;
  return apr_socket_addr_get(&address, APR_LOCAL, socket) == APR_SUCCESS ? address : nullptr;
}

// APR fills in bytes, but leaves the family and the pointers of the listener's address.
void correct(apr_sockaddr_t* address) {
  address->hostname = nullptr;
  address->next = nullptr;
  address->family = address->sa.sin.sin_family;
  address->port = ntohs(address->sa.sin.sin_port);
#if APR_HAVE_IPV6
  if (address->family == AF_INET6) {
    address->salen = sizeof address->sa.sin6;
    address->ipaddr_ptr = &address->sa.sin6.sin6_addr;
    address->ipaddr_len = sizeof address->sa.sin6.sin6_addr;
    address->addr_str_len = INET6_ADDRSTRLEN;
    return;
  }
#endif
  address->salen = sizeof address->sa.sin;
  address->ipaddr_ptr = &address->sa.sin.sin_addr;
  address->ipaddr_len = sizeof address->sa.sin.sin_addr;
  address->addr_str_len = INET_ADDRSTRLEN;
}

// The client's socket under the number of the one that was accepted: to APR and to the MPM it is
// the same one. The core asks for both addresses. False: it is still the one that was accepted.
[[nodiscard]] bool become(apr_socket_t* socket, int accepted, UniqueFd client, apr_pool_t* pool) {
  if (dup3(client.get(), accepted, O_CLOEXEC) < 0) return false;
  apr_os_sock_put(&socket, &accepted, pool);
  apr_sockaddr_t* address = nullptr;
  for (const auto which : {APR_LOCAL, APR_REMOTE}) {
    if (apr_socket_addr_get(&address, which, socket) == APR_SUCCESS) correct(address);
  }
  return true;
}

// The core closes a socket without an address, and the MPM goes on to the next connection.
void turn_away(apr_socket_t* socket, apr_pool_t* pool) {
  apr_os_sock_t none = -1;
  apr_socket_close(socket);
  apr_os_sock_put(&socket, &none, pool);
}

// By a child that is told to end at once: it takes the sockets from under its workers' hands. If it
// did so while become() was at work, APR has the number still.
bool has_been_closed(apr_socket_t* socket) {
  apr_os_sock_t fd = -1;
  return apr_os_sock_get(&fd, socket) != APR_SUCCESS || fd < 0 || fcntl(fd, F_GETFD) < 0;
}

void refuse(server_rec* server, apr_socket_t* socket, const char* what, const ucred& peer) {
  if (has_been_closed(socket)) return;
  this_child().tally->count(ModuleCounter::kReturnsRefused);
  static std::atomic<std::uint64_t> logged_ns{0};
  const std::uint64_t now_ns = monotonic_ns();
  std::uint64_t before = logged_ns.load();
  if (before != 0 && now_ns < before + kLogPeriodNs) return;
  if (!logged_ns.compare_exchange_strong(before, now_ns)) return;
  ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
               "refused a connection to the private listener for parked connections: %s (process "
               "%ld, user %lu)",
               what, static_cast<long>(peer.pid), static_cast<unsigned long>(peer.uid));
}

bool is_private(apr_socket_t* socket) {
  if (way_back() < 0) return false;
  const apr_sockaddr_t* address = local_address(socket);
  return address != nullptr && address->family == APR_UNIX &&
         is_listeners_path(address->sa.unx.sun_path);
}

// A good connection that isn't served here: its client gets a FIN, as from any server that closes
// an idle connection, and not the RST that a request which nobody reads would bring about.
void let_go(int fd) {
  Child& child = this_child();
  const Settings& settings = settings_of(child.main_server);
  shutdown(fd, SHUT_WR);
  if (child.client == nullptr) return;
  const Handoff handoff = handoff_with(settings, monotonic_ns());
  (void)child.client->hand_off(fd, handoff, handoff.handed_off_ns, child.tally->times_up());
}

// It was parked by this httpd: what it says of itself can be believed.
const char* what_is_wrong(Proof proof) {
  switch (proof) {
    case Proof::kGood:
    case Proof::kReset: break;
    case Proof::kForged: return "this httpd hasn't parked the connection that it brought";
    case Proof::kElsewhere: return "it brought a connection of another network namespace";
    case Proof::kNoListener:
      return "it brought a connection to an address and port where httpd no longer listens";
  }
  return "it brought no connection";
}

// Good as well: it isn't over TLS. What comes a second time, or with another's state, gets no byte.
TlsClaim claim_tls(apr_socket_t* socket, const Proven& proven) {
  if (proven.stay == 0) return {};
  const TlsClaim claim = tls_parking()->claim(socket, binding_of(proven.socket), proven.stay);
  if (claim.result == TlsClaim::Result::kRefused) {
    this_child().tally->count(ModuleCounter::kTlsRefused);
  } else if (claim.result == TlsClaim::Result::kOver) {
    ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, this_child().main_server,
                 "a parked connection ends: %s", claim.why);
  }
  return claim;
}

// True: `socket` is the client's now, which is served. False: what came, or the client, is to be
// turned away.
bool admit(apr_socket_t* socket, int fd, apr_pool_t* pool, server_rec* server, const ucred& peer) {
  const bool lingerds = is_lingerd(peer.uid);
  Arrival arrival = receive_arrival(fd, lingerds ? kReceiveMs : kReceiveFromOthersMs);
  if (arrival.what == Arrival::What::kHungUp) return false;
  if (arrival.what != Arrival::What::kClient) {
    refuse(server, socket, lingerds ? "it brought no client" : "it isn't lingerd's", peer);
    // A record without a client was one with a client when lingerd sent it.
    if (lingerds && arrival.what != Arrival::What::kNothing) {
      stop_parking(server, arrival.what == Arrival::What::kGarbage
                               ? ParkingTrouble::kOtherVersion
                               : ParkingTrouble::kDescriptorLost);
    }
    return false;
  }
  if (!become(socket, fd, std::move(arrival.client), pool)) {
    refuse(server, socket, "no descriptor for the client", peer);
    return false;
  }
  const Proven proven = prove(socket, fd, arrival.back);
  if (proven.proof == Proof::kGood) {
    // Last of all, because it can be done once.
    const TlsClaim claim = claim_tls(socket, proven);
    if (claim.result == TlsClaim::Result::kRefused) refuse(server, socket, claim.why, peer);
    if (claim.result == TlsClaim::Result::kOver) let_go(fd);
    if (claim.result != TlsClaim::Result::kGood) return false;
    auto* back = new (apr_palloc(pool, sizeof(Return))) Return(arrival.back);
    apr_socket_data_set(socket, back, kKey, nullptr);
    // The proof is the connection's, not the bringer's: the client doesn't pay for it.
    if (!lingerds) stop_parking(server, ParkingTrouble::kUnknownUser, peer.uid);
    return true;
  }
  if (proven.proof == Proof::kNoListener) let_go(fd);
  if (proven.proof != Proof::kReset || !lingerds) {
    refuse(server, socket, what_is_wrong(proven.proof), peer);
  }
  return false;
}

#endif

}  // namespace

conn_rec* come_back([[maybe_unused]] apr_pool_t* pool, [[maybe_unused]] server_rec* server,
                    [[maybe_unused]] apr_socket_t* socket, long, void*, apr_bucket_alloc_t*) {
#if APR_HAVE_SOCKADDR_UN
  if (!is_private(socket)) return nullptr;
  apr_os_sock_t fd = -1;
  apr_os_sock_get(&fd, socket);
  const std::optional<ucred> peer = peer_of(fd);
  if (!peer || !admit(socket, fd, pool, server, *peer)) turn_away(socket, pool);
#endif
  return nullptr;
}

const Return* return_of(apr_socket_t* socket) {
  void* data = nullptr;
  if (way_back() < 0 || socket == nullptr) return nullptr;
  if (apr_socket_data_get(&data, kKey, socket) != APR_SUCCESS) return nullptr;
  return static_cast<const Return*>(data);
}

int restore(conn_rec* connection, void* socket) {
  if (connection->master != nullptr) return DECLINED;
  if (const Return* back = return_of(static_cast<apr_socket_t*>(socket))) {
    connection->keepalives = static_cast<int>(
        std::min<std::uint32_t>(back->keepalives, std::numeric_limits<int>::max()));
    if (back->keepalives > 0) connection->keepalive = AP_CONN_KEEPALIVE;
    ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection,
                  "back after %" APR_UINT64_T_FMT " ms in lingerd",
                  static_cast<apr_uint64_t>(back->parked_ns / 1'000'000));
  }
  return OK;
}

}  // namespace lingerd
