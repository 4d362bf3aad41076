// SPDX-License-Identifier: Apache-2.0
#include "tools/ablinger/transport.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace ablinger {
namespace {

constexpr std::uint32_t kLoopbackNet = 127;

Io from_errno(int error, Io would_block) {
  switch (error) {
    case EAGAIN: return would_block;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH: return Io::kRefused;
    default:  // ECONNRESET, EPIPE, ETIMEDOUT: broken either way
      return Io::kReset;
  }
}

bool is_loopback(const sockaddr_storage& address) {
  if (address.ss_family != AF_INET) return false;
  sockaddr_in in{};
  std::memcpy(&in, &address, sizeof in);
  return ntohl(in.sin_addr.s_addr) >> 24 == kLoopbackNet;
}

}  // namespace

Target::Target(const Options& options)
    : host_(options.url.host), receive_buffer_(options.receive_buffer), sources_(options.sources) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host_.c_str(), options.url.port.c_str(), &hints, &found);
  if (error != 0) throw std::runtime_error(host_ + ": " + gai_strerror(error));
  std::memcpy(&address_, found->ai_addr, found->ai_addrlen);
  address_size_ = found->ai_addrlen;
  freeaddrinfo(found);
  if (!is_loopback(address_)) sources_ = 0;
  if (!options.url.tls) return;
  context_.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_mode(context_.get(),
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // A server that closes without close_notify is to be seen as one, not as a protocol error.
  SSL_CTX_set_options(context_.get(), SSL_OP_IGNORE_UNEXPECTED_EOF);
  if (!options.resume) return;
  SSL_CTX_set_session_cache_mode(context_.get(),
                                 SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(context_.get(), keep_session);
  SSL_CTX_set_app_data(context_.get(), this);
}

// A server of TLS 1.3 sends two tickets for each handshake: what isn't needed is dropped.
int Target::keep_session(SSL* ssl, SSL_SESSION* session) {
  constexpr std::size_t kMost = 100'000;
  auto* target = static_cast<Target*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  if (target->sessions_.size() >= kMost) return 0;
  target->sessions_.emplace_back(session);
  return 1;
}

// One source address has some 28,000 ports for a server's one port. IP_BIND_ADDRESS_NO_PORT leaves
// the choice of the port to connect(), which knows the other end.
bool Target::bind_source(int fd) {
  const int on = 1;
  if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0) return false;
  sockaddr_in source{};
  source.sin_family = AF_INET;
  source.sin_addr.s_addr = htonl((kLoopbackNet << 24) + 1 + next_source_);
  next_source_ = (next_source_ + 1) % sources_;
  return bind(fd, reinterpret_cast<const sockaddr*>(&source), sizeof source) == 0;
}

lingerd::UniqueFd Target::connect() {
  lingerd::UniqueFd fd(socket(address_.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return fd;
  if (sources_ > 1 && !bind_source(fd.get())) return lingerd::UniqueFd();
  if (receive_buffer_ > 0) {  // before connect(), or the window scale is already told
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer_, sizeof receive_buffer_);
  }
  const auto* to = reinterpret_cast<const sockaddr*>(&address_);
  if (::connect(fd.get(), to, address_size_) != 0 && errno != EINPROGRESS)
    return lingerd::UniqueFd();
  return fd;
}

SslPtr Target::new_tls(int fd) {
  SslPtr ssl(SSL_new(context_.get()));
  SSL_set_fd(ssl.get(), fd);
  SSL_set_connect_state(ssl.get());
  SSL_set_tlsext_host_name(ssl.get(), host_.c_str());
  if (!sessions_.empty()) {
    SSL_set_session(ssl.get(), sessions_.back().get());
    sessions_.pop_back();
  }
  return ssl;
}

Io Transport::handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  return result == 1 ? Io::kOk : tls_result(result);
}

Io Transport::tls_result(int result) {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ: return Io::kWantRead;
    case SSL_ERROR_WANT_WRITE: return Io::kWantWrite;
    case SSL_ERROR_ZERO_RETURN: return Io::kEof;
    case SSL_ERROR_SYSCALL: return errno == 0 ? Io::kEof : from_errno(errno, Io::kReset);
    default: return Io::kTlsFailed;
  }
}

Io Transport::receive(std::span<char> into, std::size_t& done) {
  if (ssl_) {
    ERR_clear_error();
    errno = 0;
    const int result = SSL_read_ex(ssl_.get(), into.data(), into.size(), &done);
    return result == 1 ? Io::kOk : tls_result(result);
  }
  const ssize_t got = recv(fd_.get(), into.data(), into.size(), 0);
  if (got < 0) return from_errno(errno, Io::kWantRead);
  done = static_cast<std::size_t>(got);
  return got == 0 ? Io::kEof : Io::kOk;
}

Io Transport::send(std::string_view bytes, std::size_t& done) {
  if (ssl_) {
    ERR_clear_error();
    errno = 0;
    const int result = SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &done);
    return result == 1 ? Io::kOk : tls_result(result);
  }
  const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (sent < 0) return from_errno(errno, Io::kWantWrite);
  done = static_cast<std::size_t>(sent);
  return Io::kOk;
}

bool Transport::saw_close_notify() const {
  return ssl_ && (SSL_get_shutdown(ssl_.get()) & SSL_RECEIVED_SHUTDOWN) != 0;
}

void Transport::close(bool reset, bool close_notify) {
  if (reset) {
    const linger now{1, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  } else if (ssl_ && close_notify && SSL_is_init_finished(ssl_.get())) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
  }
  ssl_.reset();
  fd_.reset();
}

}  // namespace ablinger
