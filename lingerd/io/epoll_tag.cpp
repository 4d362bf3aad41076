// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/epoll_tag.h"

#include <sys/epoll.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

namespace lingerd {

void watch(int epoll_fd, int fd, OwnTag tag) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = static_cast<std::uint64_t>(tag);
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
    throw std::system_error(errno, std::system_category(), "epoll_ctl");
  }
}

}  // namespace lingerd
