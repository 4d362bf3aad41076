// SPDX-License-Identifier: Apache-2.0
// A parked connection's arrival in a child.
#include <httpd.h>  // before the others, which need it

#include <apr_network_io.h>
#include <apr_portable.h>
#include <fcntl.h>
#include <http_core.h>
#include <http_log.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <limits>
#include <new>
#include <optional>
#include <span>
#include <string>

#include "lingerd/record.h"
#include "lingerd/unique_fd.h"
#include "mod_linger/child.h"
#include "mod_linger/connection.h"
#include "mod_linger/module.h"
#include "mod_linger/returns.h"

namespace lingerd {
namespace {

constexpr char kKey[] = "mod_linger return";
// lingerd sends at once. This is how long a child waits for one that the scheduler has put aside.
constexpr int kReceiveMs = 1'000;
constexpr std::uint64_t kLogPeriodNs = 1'000'000'000;  // of strangers, in each child

#if APR_HAVE_SOCKADDR_UN

apr_sockaddr_t* local_address(apr_socket_t* socket) {
  apr_sockaddr_t* address = nullptr;
  return apr_socket_addr_get(&address, APR_LOCAL, socket) == APR_SUCCESS ? address : nullptr;
}

// The stats page is lingerd's own file, in a directory where nobody else may write: whoever owns it
// is lingerd. Looked at again when somebody else comes, because lingerd may have changed its user.
bool is_lingerd(uid_t user) {
  static std::atomic<uid_t> known{static_cast<uid_t>(-1)};
  if (known.load(std::memory_order_relaxed) == user) return true;
  struct stat file {};
  const std::string page = std::string(this_child().socket_path) + ".stats";
  if (lstat(page.c_str(), &file) != 0 || !S_ISREG(file.st_mode) || file.st_uid != user)
    return false;
  known.store(user, std::memory_order_relaxed);
  return true;
}

struct Arrival {
  UniqueFd client;
  Return back;
};

// What the kernel gives with the message: at most one descriptor is expected, and all are taken.
UniqueFd descriptor_in(msghdr& message) {
  UniqueFd first;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      UniqueFd owned(fd);
      if (!first) first = std::move(owned);
    }
  }
  return first;
}

bool is_tcp(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  int type = 0;
  socklen_t type_size = sizeof type;
  return getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0 &&
         (address.ss_family == AF_INET || address.ss_family == AF_INET6) &&
         getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) == 0 && type == SOCK_STREAM;
}

std::optional<Arrival> receive(int fd) {
  pollfd waiting{fd, POLLIN, 0};
  if (poll(&waiting, 1, kReceiveMs) <= 0) return std::nullopt;
  ReturnRecord record;
  iovec vector{&record, sizeof record};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0) return std::nullopt;
  Arrival arrival;
  arrival.client = descriptor_in(message);
  const auto bytes = std::as_bytes(std::span(&record, 1)).first(static_cast<std::size_t>(n));
  if (!arrival.client || !decode(bytes, arrival.back) || !is_tcp(arrival.client.get())) {
    return std::nullopt;
  }
  return arrival;
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
// the same one. The core asks for both addresses.
void become(apr_socket_t* socket, int accepted, const UniqueFd& client, apr_pool_t* pool) {
  if (dup3(client.get(), accepted, O_CLOEXEC) < 0) return;
  apr_os_sock_put(&socket, &accepted, pool);
  apr_sockaddr_t* address = nullptr;
  for (const auto which : {APR_LOCAL, APR_REMOTE}) {
    if (apr_socket_addr_get(&address, which, socket) == APR_SUCCESS) correct(address);
  }
}

// The core closes a socket without an address, and the MPM goes on to the next connection.
void turn_away(apr_socket_t* socket, apr_pool_t* pool) {
  apr_os_sock_t none = -1;
  apr_socket_close(socket);
  apr_os_sock_put(&socket, &none, pool);
}

// By a child that is told to end at once: it takes the sockets from under its workers' hands.
bool has_been_closed(apr_socket_t* socket) {
  apr_os_sock_t fd = -1;
  return apr_os_sock_get(&fd, socket) != APR_SUCCESS || fd < 0;
}

void refuse(server_rec* server, apr_socket_t* socket, const char* what, const ucred& who) {
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
               what, static_cast<long>(who.pid), static_cast<unsigned long>(who.uid));
}

bool is_private(apr_socket_t* socket) {
  if (way_back() < 0) return false;
  const apr_sockaddr_t* address = local_address(socket);
  return address != nullptr && address->family == APR_UNIX &&
         is_listeners_path(address->sa.unx.sun_path);
}

#endif

}  // namespace

conn_rec* come_back([[maybe_unused]] apr_pool_t* pool, [[maybe_unused]] server_rec* server,
                    [[maybe_unused]] apr_socket_t* socket, long, void*, apr_bucket_alloc_t*) {
#if APR_HAVE_SOCKADDR_UN
  if (!is_private(socket)) return nullptr;
  apr_os_sock_t fd = -1;
  apr_os_sock_get(&fd, socket);
  ucred who{};
  socklen_t size = sizeof who;
  const bool asked = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0;
  if (!asked || !is_lingerd(who.uid)) {
    refuse(server, socket, "it isn't lingerd's", who);
    turn_away(socket, pool);
    return nullptr;
  }
  std::optional<Arrival> arrival = receive(fd);
  if (!arrival) {
    refuse(server, socket, "it brought no client", who);
    turn_away(socket, pool);
    return nullptr;
  }
  become(socket, fd, arrival->client, pool);
  auto* back = new (apr_palloc(pool, sizeof(Return))) Return(arrival->back);
  apr_socket_data_set(socket, back, kKey, nullptr);
#endif
  return nullptr;
}

namespace {

const Return* return_of(apr_socket_t* socket) {
  void* data = nullptr;
  if (way_back() < 0 || socket == nullptr) return nullptr;
  if (apr_socket_data_get(&data, kKey, socket) != APR_SUCCESS) return nullptr;
  return static_cast<const Return*>(data);
}

}  // namespace

int restore(conn_rec* connection, void* socket) {
  if (connection->master != nullptr) return DECLINED;
  if (const Return* back = return_of(static_cast<apr_socket_t*>(socket))) {
    connection->keepalives = static_cast<int>(
        std::min<std::uint32_t>(back->keepalives, std::numeric_limits<int>::max()));
    connection->keepalive = AP_CONN_KEEPALIVE;
    ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, connection,
                  "back after %" APR_UINT64_T_FMT " ms in lingerd",
                  static_cast<apr_uint64_t>(back->parked_ns / 1'000'000));
  }
  return OK;
}

std::uint64_t restore_timeout(conn_rec* connection) {
  apr_socket_t* socket = ap_get_conn_socket(connection);
  const Return* back = return_of(socket);
  if (back == nullptr) return 0;
  apr_socket_timeout_set(socket, apr_time_from_msec(back->keepalive_ms));
  return back->parked_ns / 1'000'000;
}

}  // namespace lingerd
