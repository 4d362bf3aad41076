// SPDX-License-Identifier: Apache-2.0
#include "base/notify.h"

#include <poll.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include <cerrno>
#include <cstdlib>
#include <span>
#include <string>

#include "base/clock.h"
#include "base/fd_passing.h"
#include "base/unique_fd.h"
#include "base/unix_socket.h"

namespace lingerd {
namespace {

constexpr int kPatienceMs = 1'000;

// Connected to the manager; empty: errno says why.
UniqueFd manager() {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@')) {
    errno = EAFNOSUPPORT;
    return {};
  }
  std::string name = path;
  if (name[0] == '@') name[0] = '\0';
  UniqueFd fd = unix_socket(SOCK_DGRAM);
  if (fd && connect_to(fd, unix_address(name)) != 0) fd.reset();
  return fd;
}

bool send_text(const UniqueFd& to, const std::string& text, std::span<const int> descriptors) {
  return send_message(to.get(), std::as_bytes(std::span(text)), descriptors);
}

// As sd_notify(3), but it doesn't wait for a systemd that doesn't read: this is said while sockets
// are served. What can't be said now isn't.
void say(const std::string& text) {
  if (const UniqueFd to = manager()) (void)send_text(to, text, {});
}

}  // namespace

int notify_manager(const std::string& text, int descriptor) {
  const UniqueFd to = manager();
  if (!to) return errno;
  const std::span<const int> descriptors(&descriptor, descriptor >= 0 ? 1 : 0);
  if (send_text(to, text, descriptors)) return 0;
  if (errno != EAGAIN) return errno;
  pollfd writable{to.get(), POLLOUT, 0};
  if (poll(&writable, 1, kPatienceMs) <= 0) return ETIMEDOUT;
  return send_text(to, text, descriptors) ? 0 : errno;
}

void notify_ready() {
  (void)notify_manager("READY=1");
}

// Type=notify-reload wants the time at which the reload began, to tell it from an earlier READY=1.
void notify_reloading() {
  say("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(monotonic_ns() / 1'000));
}

void notify_reloaded() {
  say("READY=1");
}

void notify_stopping() {
  say("STOPPING=1");
}

void notify_status(const std::string& text) {
  say("STATUS=" + text);
}

void notify_watchdog() {
  say("WATCHDOG=1");
}

std::uint64_t watchdog_interval_us() {
  std::uint64_t interval = 0;
  return sd_watchdog_enabled(0, &interval) > 0 ? interval : 0;
}

}  // namespace lingerd
