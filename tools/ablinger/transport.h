// SPDX-License-Identifier: Apache-2.0
// A client's socket, plain or TLS, never blocking.
#pragma once

#include <openssl/ssl.h>
#include <sys/socket.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "tools/ablinger/options.h"

namespace ablinger {

enum class Io { kOk, kWantRead, kWantWrite, kEof, kReset, kRefused, kTlsFailed };

struct SslFree {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL_SESSION* session) const { SSL_SESSION_free(session); }
};
using SslPtr = std::unique_ptr<SSL, SslFree>;
using SslSessionPtr = std::unique_ptr<SSL_SESSION, SslFree>;
using SslContextPtr = std::unique_ptr<SSL_CTX, SslFree>;

// Where to connect to, and how; shared by all clients of a thread.
class Target {
 public:
  // Throws std::runtime_error if the host has no address.
  explicit Target(const Options& options);
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  // A socket whose connection is under way, or none (errno says why).
  [[nodiscard]] lingerd::UniqueFd connect();
  [[nodiscard]] SslPtr new_tls(int fd);
  [[nodiscard]] bool tls() const { return static_cast<bool>(context_); }

 private:
  [[nodiscard]] bool bind_source(int fd);
  static int keep_session(SSL* ssl, SSL_SESSION* session);

  sockaddr_storage address_{};
  socklen_t address_size_ = 0;
  std::string host_;
  int receive_buffer_;
  unsigned sources_;
  unsigned next_source_ = 0;
  SslContextPtr context_;
  std::vector<SslSessionPtr> sessions_;  // to resume
};

class Transport {
 public:
  Transport() = default;
  Transport(lingerd::UniqueFd fd, SslPtr ssl) : fd_(std::move(fd)), ssl_(std::move(ssl)) {}

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] bool tls() const { return static_cast<bool>(ssl_); }
  [[nodiscard]] Io handshake();
  // On kOk `done` says how many bytes.
  [[nodiscard]] Io receive(std::span<char> into, std::size_t& done);
  [[nodiscard]] Io send(std::string_view bytes, std::size_t& done);
  [[nodiscard]] bool saw_close_notify() const;
  [[nodiscard]] lingerd::UniqueFd release() { return std::move(fd_); }  // of a plain one
  void close(bool reset, bool close_notify);

 private:
  [[nodiscard]] Io tls_result(int result);

  lingerd::UniqueFd fd_;
  SslPtr ssl_;
};

}  // namespace ablinger
