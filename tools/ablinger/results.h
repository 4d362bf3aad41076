// SPDX-License-Identifier: Apache-2.0
// What a run found. One per thread while it runs, merged at its end.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "tools/ablinger/histogram.h"
#include "tools/ablinger/options.h"

namespace ablinger {

enum class Error {
  kConnect,    // no connection: refused, no port, unreachable
  kReset,      // RST before the response was whole
  kShort,      // FIN before the response was whole
  kMalformed,  // no HTTP, or more bytes than announced
  kStatus,     // another status than --status
  kLength,     // another length than --length
  kBody,       // another body than --body
  kTimeout,    // no whole response within --timeout
  kTls,        // a TLS failure
  kCount,
};
[[nodiscard]] const char* name(Error error);

struct Results {
  std::uint64_t completed = 0;  // good responses within the counted time
  std::uint64_t uncounted = 0;  // good ones before or after it
  std::array<std::uint64_t, static_cast<std::size_t>(Error::kCount)> errors{};
  Histogram latency;  // ns from connect (or the request, on a kept connection) to the last byte
  std::uint64_t body_bytes = 0;
  std::uint64_t sent_bytes = 0;
  std::uint64_t connections = 0;
  std::uint64_t late_closes = 0;     // by the client, in its own time
  std::uint64_t late_cut_short = 0;  // the server reset the connection before
  std::uint64_t late_peak = 0;       // most sockets open and waiting for their late close
  std::uint64_t held_back = 0;       // requests that waited because of --max-late
  std::uint64_t close_notifies = 0;  // TLS responses with the server's close_notify (--until-fin)
  std::uint64_t stale = 0;           // kept connections that the server had closed; asked again
  std::uint64_t waits = 0;           // calls of epoll_wait
  std::int64_t counted_time = 0;
  std::int64_t whole_time = 0;
  std::int64_t user_time = 0;  // of the process
  std::int64_t system_time = 0;

  void count(Error error) { ++errors[static_cast<std::size_t>(error)]; }
  [[nodiscard]] std::uint64_t failed() const;
  void merge(const Results& other);
};

[[nodiscard]] std::string to_json(const Results& results, const Options& options);
[[nodiscard]] std::string to_text(const Results& results, const Options& options);

}  // namespace ablinger
