// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/arrival.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <span>

#include "base/fd_passing.h"

namespace lingerd {
namespace {

// At most one descriptor is expected, and more find no room: the kernel closes those.
UniqueFd descriptor_in(msghdr& message) {
  int fd = -1;
  return UniqueFd(descriptors_in(message, {&fd, 1}) == 1 ? fd : -1);
}

}  // namespace

Arrival receive_arrival(int socket, int wait_ms) {
  Arrival arrival;
  GatheredRecord record;
  iovec vector{&record, sizeof record};
  DescriptorRoom<1> room;
  msghdr message = message_into(vector, std::span(room.bytes).first(CMSG_LEN(sizeof(int))));
  ssize_t n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0 && errno == EAGAIN) {
    pollfd waiting{socket, POLLIN, 0};
    int ready = -1;
    // A signal says that this child is to end, and nothing about the client.
    do ready = poll(&waiting, 1, wait_ms);
    while (ready < 0 && errno == EINTR);
    if (ready > 0) {
      n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    }
  }
  if (n == 0) arrival.what = Arrival::What::kHungUp;
  if (n <= 0) return arrival;
  arrival.client = descriptor_in(message);
  const auto bytes = std::as_bytes(std::span(&record, 1)).first(static_cast<std::size_t>(n));
  using enum Arrival::What;
  if (!decode(bytes, arrival.back)) {
    arrival.what = kGarbage;
  } else {
    arrival.what = arrival.client ? kClient : kNoDescriptor;
  }
  return arrival;
}

}  // namespace lingerd
