// SPDX-License-Identifier: Apache-2.0
#include "base/fd_passing.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>

namespace lingerd {

bool send_message(int socket, std::span<const std::byte> bytes, std::span<const int> descriptors) {
  if (descriptors.size() > kMostInMessage) {
    errno = EINVAL;
    return false;
  }
  iovec vector{const_cast<std::byte*>(bytes.data()), bytes.size()};
  DescriptorRoom<kMostInMessage> room;
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = room.bytes.data();
    message.msg_controllen = CMSG_LEN(descriptors.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
  }
  return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

msghdr message_into(iovec& bytes, std::span<std::byte> room) {
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = room.data();
  message.msg_controllen = room.size();
  return message;
}

std::size_t descriptors_in(msghdr& message, std::span<int> out) {
  std::size_t count = 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t here =
        std::min((c->cmsg_len - CMSG_LEN(0)) / sizeof(int), out.size() - count);
    std::memcpy(out.data() + count, CMSG_DATA(c), here * sizeof(int));
    count += here;
  }
  return count;
}

}  // namespace lingerd
