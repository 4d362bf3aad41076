// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/offload/rest.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <new>

namespace lingerd {

std::shared_ptr<Rest> Rest::make(std::uint64_t timeout_ns) {
  try {
    auto rest = std::make_shared<Rest>();
    rest->timeout_ns = timeout_ns;
    rest->process = getpid();
    return rest;
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

bool Rest::hold_socket(int fd) {
  if (!socket) socket.reset(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  return static_cast<bool>(socket);
}

bool Rest::is_ours() const {
  return process == getpid();
}

RestBytes::Result Rest::send(std::uint64_t now_ns) {
  const std::uint64_t before = bytes.left();
  const RestBytes::Result result = bytes.send(socket.get());
  if (result == RestBytes::Result::kBroken) fail(errno);
  if (bytes.left() != before) moved_ns.store(now_ns, std::memory_order_relaxed);
  if (bytes.empty()) due_ns.store(kNever, std::memory_order_relaxed);
  return result;
}

void Rest::fail(int why) {
  error = why != 0 ? why : EIO;
  bytes.clear();
  due_ns.store(kNever, std::memory_order_relaxed);
}

}  // namespace lingerd
