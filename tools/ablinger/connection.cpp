// SPDX-License-Identifier: Apache-2.0
#include "tools/ablinger/connection.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>

namespace ablinger {
namespace {

constexpr int kPiecesInATurn = 16;  // a client with much to send doesn't keep others waiting
constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

// Reads when a timer lets it, not as soon as there is something.
bool reads_slowly(const Options& o) {
  return o.read_rate > 0 || o.stall > 0;
}

std::string request_head(const Options& o, bool last) {
  std::string head = (o.upload > 0 ? "POST " : "GET ") + o.url.path + " HTTP/1.1\r\n";
  head += "Host: " + o.url.host + "\r\nUser-Agent: ablinger\r\n";
  if (o.upload > 0) head += "Content-Length: " + std::to_string(o.upload) + "\r\n";
  return head + (last ? "Connection: close\r\n\r\n" : "Connection: keep-alive\r\n\r\n");
}

}  // namespace

Script::Script(const Options& o)
    : kept_head_(request_head(o, false)),
      last_head_(request_head(o, true)),
      filler_bytes_(o.upload + o.late_bytes) {}

std::string_view Script::at(std::uint64_t offset, bool last) const {
  const std::string& head = last ? last_head_ : kept_head_;
  if (offset < head.size()) return std::string_view(head).substr(offset);
  return filler().substr(0, std::min(filler_bytes_ - (offset - head.size()), filler().size()));
}

void Connection::open(Transport transport, unsigned for_slot, std::int64_t now) {
  transport_ = std::move(transport);
  slot = for_slot;
  watched = false;
  asked_ = 0;
  connected_ = false;
  ask_again(now);
  if (transport_.tls()) phase_ = Phase::kHandshake;
}

void Connection::ask_again(std::int64_t now) {
  response_.clear();
  phase_ = Phase::kExchange;
  all_sent_ = false;
  whole_ = false;
  sent_ = 0;
  may_read_ = 0;
  asked_at_ = now;
  ++asked_;
}

bool Connection::may_ask_again(const Options& o) const {
  return asked_ < o.keepalive && !response_.says_close();
}

bool Connection::gone_stale() const {
  return asked_ > 1 && !response_.started() && (error_ == Error::kShort || error_ == Error::kReset);
}

Connection::Outcome Connection::step(const Options& o, const Script& script, Results& results) {
  interest_ = 0;
  if (phase_ == Phase::kHandshake) {
    if (const Outcome made = handshake(); made != Outcome::kGoesOn || interest_ != 0) return made;
    phase_ = Phase::kExchange;
  }
  if (!all_sent_) {
    if (const Outcome sent = send(o, script, results); sent != Outcome::kGoesOn) return sent;
    // No server answers while we look: one recv() saved for each request.
    if (all_sent_ && phase_ == Phase::kExchange && !reads_slowly(o)) interest_ |= EPOLLIN;
    if (all_sent_) return Outcome::kGoesOn;
  }
  if (phase_ != Phase::kExchange) return Outcome::kGoesOn;
  return receive(o, results);
}

Connection::Outcome Connection::handshake() {
  switch (const Io io = transport_.handshake()) {
    case Io::kOk: connected_ = true; return Outcome::kGoesOn;
    case Io::kWantRead: interest_ = EPOLLIN; return Outcome::kGoesOn;
    case Io::kWantWrite: interest_ = EPOLLOUT; return Outcome::kGoesOn;
    default: return broken(io, Error::kTls);
  }
}

Connection::Outcome Connection::send(const Options& o, const Script& script, Results& results) {
  const bool last = asked_ >= o.keepalive;
  for (int turn = 0; turn < kPiecesInATurn; ++turn) {
    const std::string_view piece = script.at(sent_, last);
    if (piece.empty()) {
      all_sent_ = true;
      return Outcome::kGoesOn;
    }
    std::size_t done = 0;
    const Io io = transport_.send(piece, done);
    if (io == Io::kWantWrite || io == Io::kWantRead) {
      interest_ |= io == Io::kWantWrite ? EPOLLOUT : EPOLLIN;
      return Outcome::kGoesOn;
    }
    // A server that refuses an upload resets it: what it said before may still be readable.
    if (io == Io::kReset && connected_ && phase_ == Phase::kExchange) {
      all_sent_ = true;
      return Outcome::kGoesOn;
    }
    if (io != Io::kOk) return broken(io, Error::kReset);
    connected_ = true;
    sent_ += done;
    results.sent_bytes += done;
  }
  interest_ |= EPOLLOUT;
  return Outcome::kGoesOn;
}

Connection::Outcome Connection::receive(const Options& o, Results& results) {
  static thread_local std::array<char, 65536> buffer;
  if (!connected_) return Outcome::kGoesOn;
  std::uint64_t left = reads_slowly(o) ? std::exchange(may_read_, 0) : kNoLimit;
  while (left > 0) {
    std::size_t got = 0;
    const Io io = transport_.receive(std::span(buffer).first(std::min(left, buffer.size())), got);
    if (io == Io::kWantRead || io == Io::kWantWrite) {
      if (o.read_rate > 0) return Outcome::kGoesOn;  // until its next turn
      may_read_ = left;
      interest_ |= io == Io::kWantRead ? EPOLLIN : EPOLLOUT;
      return Outcome::kGoesOn;
    }
    if (io == Io::kEof) {
      if (whole_ || response_.at_eof() == Response::State::kComplete) return finish(o, results);
      return fail(Error::kShort);
    }
    if (io != Io::kOk) return broken(io, Error::kReset);
    left -= std::min<std::uint64_t>(left, got);
    const Response::State state = response_.feed({buffer.data(), got}, o.body ? &*o.body : nullptr);
    if (state == Response::State::kMalformed) return fail(Error::kMalformed);
    whole_ = whole_ || state == Response::State::kComplete;
    if (whole_ && (!o.until_fin || asked_ < o.keepalive)) return finish(o, results);
  }
  return Outcome::kGoesOn;
}

Connection::Outcome Connection::finish(const Options& o, Results& results) {
  if (response_.status() != o.status) return fail(Error::kStatus);
  if (o.length >= 0 && response_.body_bytes() != static_cast<std::uint64_t>(o.length)) {
    return fail(Error::kLength);
  }
  if (o.body && !response_.body_is(*o.body)) return fail(Error::kBody);
  results.body_bytes += response_.body_bytes();
  if (o.until_fin && transport_.saw_close_notify()) ++results.close_notifies;
  return Outcome::kResponse;
}

Connection::Outcome Connection::trickle(std::uint64_t bytes, Results& results) {
  std::size_t done = 0;
  const Io io = transport_.send(Script::filler().substr(0, bytes), done);
  results.sent_bytes += done;
  return io == Io::kReset || io == Io::kTlsFailed ? Outcome::kCutShort : Outcome::kGoesOn;
}

bool Connection::overdue(std::int64_t now, std::int64_t timeout) const {
  return (phase_ == Phase::kHandshake || phase_ == Phase::kExchange) && now - asked_at_ > timeout;
}

Connection::Outcome Connection::broken(Io io, Error otherwise) {
  if (phase_ == Phase::kLate) return Outcome::kCutShort;
  if (!connected_ && !transport_.tls()) return fail(Error::kConnect);
  if (io == Io::kRefused) return fail(Error::kConnect);
  return fail(io == Io::kTlsFailed ? Error::kTls : otherwise);
}

Connection::Outcome Connection::fail(Error error) {
  error_ = error;
  return Outcome::kFailed;
}

lingerd::UniqueFd Connection::give_up() {
  phase_ = Phase::kFree;
  ++timer_serial;
  response_.clear();
  return transport_.release();
}

void Connection::close(const Options& o) {
  transport_.close(o.reset, o.close_notify);
  phase_ = Phase::kFree;
  ++timer_serial;
  response_.clear();
}

}  // namespace ablinger
