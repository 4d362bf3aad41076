// SPDX-License-Identifier: Apache-2.0
// One client: connects, sends its request, reads the response, stays as long as it is told to, and
// closes. It never waits: each step goes as far as the socket lets it and says what to wait for.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "tools/ablinger/options.h"
#include "tools/ablinger/response.h"
#include "tools/ablinger/results.h"
#include "tools/ablinger/transport.h"

namespace ablinger {

// What all clients send, made once.
class Script {
 public:
  explicit Script(const Options& options);
  // What is to be sent at `offset` of a request: head, body and late bytes; empty at the end.
  [[nodiscard]] std::string_view at(std::uint64_t offset, bool last) const;
  [[nodiscard]] static std::string_view filler() { return {kFiller.data(), kFiller.size()}; }

 private:
  static constexpr std::array<char, 65536> kFiller = [] {
    std::array<char, 65536> bytes{};
    bytes.fill('x');
    return bytes;
  }();
  std::string kept_head_;  // of a request that another one follows on the same connection
  std::string last_head_;
  std::uint64_t filler_bytes_;  // body and late bytes
};

class Connection {
 public:
  enum class Phase {
    kFree,
    kHandshake,  // connecting too
    kExchange,   // sends the request and reads the response
    kThinking,   // between two requests
    kLate,       // has its response, hasn't closed yet
  };
  // What happened in a step.
  enum class Outcome {
    kGoesOn,
    kResponse,  // a good one
    kFailed,    // see error()
    kCutShort,  // in kLate: the server reset the connection
  };

  void open(Transport transport, unsigned slot, std::int64_t now);
  // The next request of a kept connection.
  void ask_again(std::int64_t now);
  [[nodiscard]] Outcome step(const Options& options, const Script& script, Results& results);
  void become_late() { phase_ = Phase::kLate; }
  void think() { phase_ = Phase::kThinking; }
  [[nodiscard]] Outcome trickle(std::uint64_t bytes, Results& results);
  // kHandshake or kExchange for too long.
  [[nodiscard]] bool overdue(std::int64_t now, std::int64_t timeout) const;
  // Lets a stalled or slow reader read so many bytes more.
  void allow_reading(std::uint64_t bytes) { may_read_ = bytes; }
  void close(const Options& options);
  // Closed for us; the socket goes on elsewhere.
  [[nodiscard]] lingerd::UniqueFd give_up();

  [[nodiscard]] Phase phase() const { return phase_; }
  [[nodiscard]] Error error() const { return error_; }
  [[nodiscard]] int fd() const { return transport_.fd(); }
  [[nodiscard]] std::uint32_t epoll_interest() const { return interest_; }
  [[nodiscard]] std::int64_t asked_at() const { return asked_at_; }
  // After a failure: a kept connection that the server closed before it saw the next request. Any
  // client asks again on a new one then.
  [[nodiscard]] bool gone_stale() const;
  [[nodiscard]] bool may_ask_again(const Options& options) const;
  [[nodiscard]] bool all_sent() const { return all_sent_; }

  // Belongs to the load: what waits for this client, and which of its timers still counts.
  std::optional<unsigned> slot;
  std::uint32_t timer_serial = 0;
  bool watched = false;  // known to epoll

 private:
  [[nodiscard]] Outcome handshake();
  [[nodiscard]] Outcome send(const Options& options, const Script& script, Results& results);
  [[nodiscard]] Outcome receive(const Options& options, Results& results);
  [[nodiscard]] Outcome finish(const Options& options, Results& results);
  [[nodiscard]] Outcome broken(Io io, Error otherwise);
  [[nodiscard]] Outcome fail(Error error);

  Transport transport_;
  Response response_;
  Phase phase_ = Phase::kFree;
  Error error_ = Error::kCount;
  bool all_sent_ = false;
  bool connected_ = false;
  bool whole_ = false;  // the response; the FIN may still be to come (--until-fin)
  std::uint32_t interest_ = 0;
  unsigned asked_ = 0;
  std::int64_t asked_at_ = 0;
  std::uint64_t sent_ = 0;
  std::uint64_t may_read_ = 0;
};

}  // namespace ablinger
