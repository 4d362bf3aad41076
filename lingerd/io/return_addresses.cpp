// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/return_addresses.h"
#include "lingerd/core/carry.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <span>
#include <utility>

#include "base/fd_passing.h"
#include "base/unix_socket.h"
#include "lingerd/core/return_lines.h"
#include "lingerd/io/closer.h"
#include "lingerd/io/file_systems.h"

namespace lingerd {
namespace {

using SendBack = ParkOps::SendBack;

bool is_denied(int error) {
  return error == EACCES || error == EPERM;
}

bool send_with(const UniqueFd& to, const Return& back, int descriptor) {
  const GatheredRecord gathered = encode_gathered(back);
  const ReturnRecord idle = encode(back);
  const auto bytes = back.waited_for == WaitedFor::kNextRequest
                         ? std::as_bytes(std::span(&idle, 1))
                         : std::as_bytes(std::span(&gathered, 1));
  return send_message(to.get(), bytes, {&descriptor, 1});
}

}  // namespace

bool ReturnAddresses::work_here() {
  return access("/proc/self/fd", X_OK) == 0;
}

ReturnAddresses::Adopted ReturnAddresses::adopt(UniqueFd& fd, Shares::User owner) {
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || (flags & O_PATH) == 0) return {Verdict::kNoName};
  const auto place = file_systems().socket_at(fd.get());
  if (!place) return {Verdict::kNoName};
  std::size_t unused = entries_.size();
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    if (entry.holders == 0) {
      unused = i;
    } else if (entry.device == place->device && entry.inode == place->inode) {
      if (entry.denied) return {Verdict::kDenied};
      if (entry.withdrawn) return {Verdict::kTooMany};
      ++entry.holders;
      fd.reset();
      return {Verdict::kGood, static_cast<AddressId>(i)};
    }
  }
  // With a socket of the type that connections return by: permissions of the file would be found by
  // any, but security modules are asked only when everything else is right. httpd sees a connection
  // of lingerd's that brings nothing.
  const UniqueFd probe = unix_socket(SOCK_STREAM);
  if (probe && is_denied(connect_to(probe, unix_address_by(fd.get())))) return {Verdict::kDenied};
  if (!has_room_for(owner)) return {Verdict::kTooMany};
  if (unused == entries_.size()) entries_.emplace_back();
  entries_[unused] = {std::move(fd), place->device, place->inode, 1, owner, false, false};
  return {Verdict::kGood, static_cast<AddressId>(unused)};
}

// Or makes some: of the owner that has most, the one that fewest hold. It stays an entry until
// they have let go of it.
bool ReturnAddresses::has_room_for(Shares::User owner) {
  std::map<Shares::User, std::size_t> counts;
  std::size_t all = 0;
  for (const Entry& entry : entries_) {
    if (!entry.counts()) continue;
    ++all;
    ++counts[entry.owner];
  }
  if (all < kMostAddresses) return true;
  const auto most = std::ranges::max_element(counts, {}, [](const auto& of) { return of.second; });
  if (most->second <= counts[owner] + 1) return false;
  Entry* least = nullptr;
  for (Entry& entry : entries_) {
    if (!entry.counts() || entry.owner != most->first) continue;
    if (least == nullptr || entry.holders <= least->holders) least = &entry;
  }
  least->withdrawn = true;
  return true;
}

const char* ReturnAddresses::describe(Verdict verdict) {
  switch (verdict) {
    case Verdict::kGood: return "a good way back";
    case Verdict::kNoName:
      return "an idle connection whose way back is no socket's name, or one on a remote file "
             "system "
             "or one that lingerd doesn't see (httpd in a container: put DefaultRuntimeDir on a "
             "volume that both have)";
    case Verdict::kTooMany:
      return "an idle connection with a way back of its own: as many are known as there may be, "
             "and "
             "this user has its share of them";
    case Verdict::kDenied: break;
  }
  return "idle connections: lingerd may not connect to httpd's private listener, so they stay with "
         "httpd. AppArmor: give lingerd linger.*/return.sock in httpd's DefaultRuntimeDir "
         "(/etc/apparmor.d/local/usr.sbin.lingerd). SELinux: see ausearch -m avc -c lingerd";
}

// Not closed here: the name may be the last thing that holds a whole file system of its owner's.
void ReturnAddresses::release(AddressId id) {
  Entry& entry = entries_[id];
  if (--entry.holders == 0) closer().take(std::move(entry.fd), entry.owner);
}

SendBack ReturnAddresses::send(AddressId id, int socket, const Return& back) {
  const UniqueFd to = unix_socket(SOCK_STREAM);
  if (!to) return SendBack::kLater;
  const int error = connect_to(to, unix_address_by(entries_[id].fd.get()));
  entries_[id].denied = is_denied(error);
  switch (error) {
    case 0: break;
    case ECONNREFUSED:  // its last descriptor is closed, and no other socket can have this inode
    case EPROTOTYPE:    // it never was one of ours
    case ENOTSOCK:
    case EACCES:  // a policy has changed, and won't change back while a client waits
    case EPERM: return SendBack::kGone;
    default: return SendBack::kLater;
  }
  return send_with(to, back, socket) ? SendBack::kSent : SendBack::kLater;
}

UniqueFd ReturnAddresses::connect_by(int way) {
  UniqueFd to = unix_socket(SOCK_STREAM);
  if (to && connect_to(to, unix_address_by(way)) != 0) to.reset();
  return to;
}

bool ReturnAddresses::send_over(const UniqueFd& connection, int socket, const Return& back) {
  return send_with(connection, back, socket);
}

SendBack ReturnAddresses::send_by(int way, int socket, const Return& back) {
  const UniqueFd to = connect_by(way);
  return to && send_over(to, socket, back) ? SendBack::kSent : SendBack::kLater;
}

// The kernel looks for the socket behind the name before it compares types: a datagram socket gets
// EPROTOTYPE from a living listener, ECONNREFUSED from a dead one, and neither notices.
bool ReturnAddresses::alive(AddressId id) const {
  const UniqueFd probe = unix_socket(SOCK_DGRAM);
  return !probe || connect_to(probe, unix_address_by(entries_[id].fd.get())) != ECONNREFUSED;
}

std::vector<AddressId> ReturnAddresses::ids() const {
  std::vector<AddressId> out;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].holders > 0) out.push_back(static_cast<AddressId>(i));
  }
  return out;
}

}  // namespace lingerd
