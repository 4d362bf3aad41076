// SPDX-License-Identifier: Apache-2.0
#include "lingerd/return_addresses.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace lingerd {
namespace {

using SendBack = ParkOps::SendBack;

// 0, or an errno.
int connect_to(int socket, int address) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::snprintf(name.sun_path, sizeof name.sun_path, "/proc/self/fd/%d", address);
  return connect(socket, reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0 ? 0 : errno;
}

UniqueFd unix_socket(int type) {
  return UniqueFd(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

bool send_with(int to, const ReturnRecord& record, int descriptor) {
  ReturnRecord copy = record;
  iovec vector{&copy, sizeof copy};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof descriptor);
  std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  return sendmsg(to, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof copy;
}

}  // namespace

bool ReturnAddresses::work_here() {
  return access("/proc/self/fd", X_OK) == 0;
}

std::optional<AddressId> ReturnAddresses::adopt(UniqueFd& fd) {
  struct stat file {};
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || (flags & O_PATH) == 0 || fstat(fd.get(), &file) != 0 ||
      !S_ISSOCK(file.st_mode)) {
    return std::nullopt;
  }
  std::size_t unused = entries_.size();
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    if (entry.users == 0) {
      unused = i;
    } else if (entry.device == file.st_dev && entry.inode == file.st_ino) {
      ++entry.users;
      fd.reset();
      return static_cast<AddressId>(i);
    }
  }
  if (unused == kMostAddresses) return std::nullopt;
  if (unused == entries_.size()) entries_.emplace_back();
  entries_[unused] = {std::move(fd), file.st_dev, file.st_ino, 1};
  return static_cast<AddressId>(unused);
}

void ReturnAddresses::release(AddressId id) {
  Entry& entry = entries_[id];
  if (--entry.users == 0) entry.fd.reset();
}

SendBack ReturnAddresses::send(AddressId id, int socket, const Return& back) const {
  const UniqueFd to = unix_socket(SOCK_STREAM);
  if (!to) return SendBack::kLater;
  switch (connect_to(to.get(), entries_[id].fd.get())) {
    case 0: break;
    case ECONNREFUSED:  // its last descriptor is closed, and no other socket can have this inode
    case EPROTOTYPE:    // it never was one of ours
    case ENOTSOCK: return SendBack::kGone;
    default: return SendBack::kLater;
  }
  return send_with(to.get(), encode(back), socket) ? SendBack::kSent : SendBack::kLater;
}

// The kernel looks for the socket behind the name before it compares types: a datagram socket gets
// EPROTOTYPE from a living listener, ECONNREFUSED from a dead one, and neither notices.
bool ReturnAddresses::alive(AddressId id) const {
  const UniqueFd probe = unix_socket(SOCK_DGRAM);
  return !probe || connect_to(probe.get(), entries_[id].fd.get()) != ECONNREFUSED;
}

std::vector<AddressId> ReturnAddresses::ids() const {
  std::vector<AddressId> out;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].users > 0) out.push_back(static_cast<AddressId>(i));
  }
  return out;
}

}  // namespace lingerd
