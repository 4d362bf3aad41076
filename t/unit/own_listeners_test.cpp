// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/own_listeners.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/unique_fd.h"
#include "mod_linger/stay/endpoint.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd;

namespace {

sockaddr_storage address_of(const std::string& text, std::uint16_t port) {
  sockaddr_storage out{};
  auto* in = reinterpret_cast<sockaddr_in*>(&out);
  auto* in6 = reinterpret_cast<sockaddr_in6*>(&out);
  if (inet_pton(AF_INET, text.c_str(), &in->sin_addr) == 1) {
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
  } else {
    CHECK(inet_pton(AF_INET6, text.c_str(), &in6->sin6_addr) == 1);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
  }
  return out;
}

Endpoint at(const std::string& text, std::uint16_t port, std::uint32_t scope = 0) {
  sockaddr_storage address = address_of(text, port);
  if (scope != 0) reinterpret_cast<sockaddr_in6*>(&address)->sin6_scope_id = scope;
  return *endpoint_of(reinterpret_cast<const sockaddr*>(&address));
}

struct Listening {
  UniqueFd fd;
  std::uint16_t port = 0;
};

Listening listening(const std::string& text, bool v6only = false) {
  const sockaddr_storage address = address_of(text, 0);
  Listening out;
  out.fd.reset(socket(address.ss_family, SOCK_STREAM, 0));
  const int only = v6only ? 1 : 0;
  if (address.ss_family == AF_INET6) {
    setsockopt(out.fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
  }
  CHECK(bind(out.fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  CHECK(listen(out.fd.get(), 1) == 0);
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  CHECK(getsockname(out.fd.get(), reinterpret_cast<sockaddr*>(&bound), &size) == 0);
  out.port = endpoint_of(reinterpret_cast<const sockaddr*>(&bound))->port;
  return out;
}

bool has_ipv6() {
  const sockaddr_storage loopback = address_of("::1", 0);
  const UniqueFd fd(socket(AF_INET6, SOCK_STREAM, 0));
  return fd && bind(fd.get(), reinterpret_cast<const sockaddr*>(&loopback), sizeof loopback) == 0;
}

}  // namespace

TEST_GROUP(own_listeners) {
  OwnListeners listeners;
};

TEST(own_listeners, none_takes_nothing) {
  CHECK(!listeners.could_accept(at("127.0.0.1", 80)));
}

TEST(own_listeners, of_one_address_take_that_one_and_its_port) {
  const Listening one = listening("127.0.0.1");
  listeners.add(one.fd.get());
  CHECK(listeners.could_accept(at("127.0.0.1", one.port)));
  CHECK(!listeners.could_accept(at("127.0.0.2", one.port)));
  CHECK(!listeners.could_accept(at("127.0.0.1", one.port + 1)));
  CHECK(!listeners.could_accept(at("::1", one.port)));
}

TEST(own_listeners, of_all_addresses_take_each) {
  const Listening one = listening("0.0.0.0");
  listeners.add(one.fd.get());
  CHECK(listeners.could_accept(at("192.0.2.1", one.port)));
  CHECK(listeners.could_accept(at("::ffff:192.0.2.1", one.port)));  // as an IPv6 socket shows it
  CHECK(!listeners.could_accept(at("2001:db8::1", one.port)));
  CHECK(!listeners.could_accept(at("192.0.2.1", one.port + 1)));
}

TEST(own_listeners, of_ipv6_take_ipv4_if_they_may) {
  if (!has_ipv6()) return;
  const Listening both = listening("::");
  listeners.add(both.fd.get());
  CHECK(listeners.could_accept(at("2001:db8::1", both.port)));
  CHECK(listeners.could_accept(at("::ffff:192.0.2.1", both.port)));
  CHECK(listeners.could_accept(at("fe80::1", both.port, 7)));
  listeners.clear();
  const Listening only = listening("::", true);
  listeners.add(only.fd.get());
  CHECK(listeners.could_accept(at("2001:db8::1", only.port)));
  CHECK(!listeners.could_accept(at("::ffff:192.0.2.1", only.port)));
  listeners.clear();
  const Listening one = listening("::1");
  listeners.add(one.fd.get());
  CHECK(listeners.could_accept(at("::1", one.port)));
  CHECK(!listeners.could_accept(at("::1", one.port, 7)));  // on another link
  CHECK(!listeners.could_accept(at("::ffff:127.0.0.1", one.port)));
}

TEST(own_listeners, that_are_transparent_take_foreign_addresses_and_ports) {
  const Listening one = listening("127.0.0.1");
  const int on = 1;
  if (setsockopt(one.fd.get(), IPPROTO_IP, IP_TRANSPARENT, &on, sizeof on) != 0) return;  // no root
  listeners.add(one.fd.get());
  CHECK(listeners.could_accept(at("192.0.2.1", 443)));
  CHECK(!listeners.could_accept(at("2001:db8::1", 443)));
}

TEST(own_listeners, take_nothing_of_another_network_namespace) {
  const Listening one = listening("0.0.0.0");
  listeners.add(one.fd.get());
  const UniqueFd here(socket(AF_INET, SOCK_STREAM, 0));
  CHECK(listeners.could_accept(at("192.0.2.1", one.port), network_of(here.get())));
  if (!network_of(here.get())) return;  // an older kernel
  CHECK(!listeners.could_accept(at("192.0.2.1", one.port), std::nullopt));
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) _exit(0);
    const UniqueFd there(socket(AF_INET, SOCK_STREAM, 0));
    _exit(listeners.could_accept(at("192.0.2.1", one.port), network_of(there.get())) ? 1 : 0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  LONGS_EQUAL(0, status);
}

TEST(own_listeners, leave_out_what_is_no_ip_socket) {
  const UniqueFd fd(socket(AF_UNIX, SOCK_STREAM, 0));
  listeners.add(fd.get());
  listeners.add(-1);
  CHECK(!listeners.could_accept(at("127.0.0.1", 80)));
}
