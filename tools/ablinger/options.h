// SPDX-License-Identifier: Apache-2.0
// What ablinger is asked to do. Times are nanoseconds unless a name says otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <string>

namespace ablinger {

inline constexpr std::int64_t kMillisecond = 1'000'000;
inline constexpr std::int64_t kSecond = 1'000'000'000;

// How long after the end of the response a client keeps its socket open.
struct LateClose {
  enum class Kind { kFixed, kUniform, kExponential };
  Kind kind = Kind::kFixed;
  double low_ms = 0;   // the fixed time, or the mean of an exponential one
  double high_ms = 0;  // of a uniform one

  [[nodiscard]] bool none() const { return kind == Kind::kFixed && low_ms <= 0; }
  [[nodiscard]] std::int64_t sample(std::minstd_rand& random) const;
};

struct Url {
  bool tls = false;
  std::string host;
  std::string port;
  std::string path;
};

struct Options {
  Url url;
  unsigned concurrency = 50;
  unsigned threads = 1;
  std::uint64_t requests = 0;  // 0: no limit
  std::int64_t duration = 0;   // 0: no limit
  std::int64_t warmup = 0;     // before the counting starts; comes on top of the duration
  double rate = 0;             // requests a second, 0: as fast as the slots allow
  LateClose late;
  bool detach = false;         // a slot's next request doesn't wait for its late close
  std::uint64_t max_late = 0;  // open sockets that wait for their late close; 0: what nofile allows
  unsigned late_tables = 0;  // each a descriptor table for late sockets, so that nofile counts less
  bool until_fin = false;    // a response ends with the server's FIN, not with its last byte
  bool reset = false;        // close with RST
  bool close_notify = true;  // TLS: say it before closing
  bool resume = false;       // TLS: a session from before, if there is one
  std::uint64_t upload = 0;  // bytes of request body
  std::uint64_t late_bytes = 0;         // bytes after the request, which no server will read as one
  std::uint64_t trickle = 0;            // bytes a second after the response
  std::uint64_t read_rate = 0;          // bytes a second
  int receive_buffer = 0;               // SO_RCVBUF
  std::int64_t stall = 0;               // before the first read
  unsigned keepalive = 1;               // requests per connection
  LateClose think;                      // between them
  std::int64_t timeout = 30 * kSecond;  // of a request
  int status = 200;                     // what a good response has
  std::int64_t length = -1;             // of a good response's body; -1: what its head says
  std::optional<std::string> body;      // of a good response, byte for byte
  unsigned sources = 8;                 // loopback source addresses, 127.0.0.1 onwards
  std::string json;                     // file, "-" for stdout
};

// Prints help, version or the mistake and exits, or returns.
[[nodiscard]] Options parse_options(int argc, char** argv);

}  // namespace ablinger
