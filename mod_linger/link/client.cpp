// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/link/client.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>

#include "base/errors.h"
#include "base/fd_passing.h"
#include "base/unix_socket.h"
namespace lingerd {
namespace {

// Room for what one child has under way while lingerd gets no processor. The kernel's default holds
// 278 records, twice the default (which net.core.wmem_max commonly is) 555. More would rather meet
// the limit of descriptors in flight, which is each user's RLIMIT_NOFILE.
constexpr int kSendBufferBytes = 212'992;

UniqueFd new_socket() {
  UniqueFd fd = unix_socket(SOCK_SEQPACKET);
  if (fd) setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &kSendBufferBytes, sizeof kSendBufferBytes);
  return fd;
}

bool is_gone(int error) {
  return error == EPIPE || error == ECONNRESET || error == ECONNREFUSED || error == ENOTCONN;
}

}  // namespace

Client::Client(const char* path) : path_(path), fd_(new_socket()) {}

Client::Result Client::start(std::uint64_t now_ns) {
  const std::scoped_lock lock(mutex_);
  const Result result = connect(now_ns);
  if (result.obstacle != Obstacle::kGreeting) return result;
  // This child serves no client yet. Without this wait the first connections of each child would
  // fall back, because no greeting has come.
  pollfd waiting{fd_.get(), POLLIN, 0};
  poll(&waiting, 1, kGreetingWaitMs);
  return read_greeting(now_ns);
}

Client::Result Client::hand_off(int socket, const Handoff& handoff, std::uint64_t now_ns,
                                std::uint64_t times_up) {
  return send_or_reconnect(std::span(&socket, 1), handoff, now_ns, times_up);
}

Client::Result Client::park(int socket, int way_back, const Handoff& handoff, std::uint64_t now_ns,
                            std::uint64_t times_up) {
  const std::array<int, 2> descriptors{socket, way_back};
  return send_or_reconnect(descriptors, handoff, now_ns, times_up);
}

Client::Result Client::reach(RecordKind kind, std::uint64_t now_ns, std::uint64_t times_up) {
  if (state_.load(std::memory_order_acquire) != State::kReady) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return {Obstacle::kGreeting};  // another thread is at it
    const Result result = make_ready(now_ns, times_up);
    if (result.obstacle != Obstacle::kNone) return result;
  }
  return {refuses(kind) ? Obstacle::kOtherVersion : Obstacle::kNone};
}

Client::Result Client::announce(int way_back, std::uint64_t now_ns, std::uint64_t times_up) {
  if (way_is_good_.load(std::memory_order_acquire) && takes(RecordKind::kIdle)) return {};
  // Another thread may be at it, for as long as an answer takes at most. Not to wait for that would
  // cost this connection's thread the whole KeepAliveTimeout.
  const std::scoped_lock lock(mutex_);
  if (way_is_good_.load(std::memory_order_acquire) && takes(RecordKind::kIdle)) return {};
  if (const Result result = make_ready(now_ns, times_up); result.obstacle != Obstacle::kNone) {
    return result;
  }
  if (!takes(RecordKind::kWayBack)) return {};
  if (now_ns < announce_again_ns_) return {Obstacle::kRefused, refused_with_, false};
  return offer_way(way_back, now_ns);
}

Client::Result Client::offer_way(int way_back, std::uint64_t now_ns) {
  const Result offered =
      send(std::span(&way_back, 1), {.kind = RecordKind::kWayBack, .ticket = ++ticket_});
  if (offered.obstacle == Obstacle::kDown) return disconnect(offered, now_ns);
  if (offered.obstacle != Obstacle::kNone) return offered;
  const std::optional<Acceptance> acceptance = wait_for_answer(ticket_);
  if (!acceptance) {
    const bool silent = errno == EAGAIN;
    return disconnect({silent ? Obstacle::kBusy : Obstacle::kDown, errno, true}, now_ns);
  }
  if (*acceptance == Acceptance::kAccepted) {
    way_is_good_.store(true, std::memory_order_release);
    return {};
  }
  announce_again_ns_ = now_ns + kAnnounceAgainNs;
  refused_with_ = *acceptance == Acceptance::kDenied ? EACCES : EBADF;
  return {Obstacle::kRefused, refused_with_, true};
}

// By way of a new connection if the one that there was has gone.
Client::Result Client::send_or_reconnect(std::span<const int> descriptors, const Handoff& handoff,
                                         std::uint64_t now_ns, std::uint64_t times_up) {
  const Result reached = reach(handoff.kind, now_ns, times_up);
  if (reached.obstacle != Obstacle::kNone) return reached;
  const Result result = send(descriptors, handoff);
  if (result.obstacle != Obstacle::kDown) return result;
  // lingerd went away since the last hand-off; a new one may be there already.
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return {Obstacle::kDown, result.error, false};  // another thread is at it
  const Result again = reconnect(now_ns);
  if (again.obstacle != Obstacle::kNone) return again;
  if (refuses(handoff.kind)) return {Obstacle::kOtherVersion};
  // Nothing is parked before this lingerd has tried the way back.
  if (handoff.kind != RecordKind::kLinger && takes(RecordKind::kWayBack)) {
    return {Obstacle::kGreeting};
  }
  return send(descriptors, handoff);
}

// One offer at a time: the lock is held until its answer has come, so that nobody replaces the
// connection meanwhile, or reads what is for another.
Client::Result Client::deliver(int socket, int content, Handoff handoff, std::uint64_t now_ns,
                               std::uint64_t times_up) {
  const std::scoped_lock lock(mutex_);
  if (const Result result = make_ready(now_ns, times_up); result.obstacle != Obstacle::kNone) {
    return result;
  }
  const std::array<int, 2> descriptors{socket, content};
  handoff.kind = RecordKind::kDeliver;
  handoff.ticket = ++ticket_;
  const Result result = offer(descriptors, handoff, now_ns);
  if (result.obstacle != Obstacle::kDown) return result;
  const Result again = reconnect(now_ns);
  return again.obstacle == Obstacle::kNone ? offer(descriptors, handoff, now_ns) : again;
}

// Where anything but a refusal goes wrong the connection is given up, and with it the offer:
// lingerd forgets what a connection that is gone has offered.
Client::Result Client::offer(std::span<const int> descriptors, const Handoff& handoff,
                             std::uint64_t now_ns) {
  if (!delivers()) return {Obstacle::kOtherVersion};
  const Result offered = send(descriptors, handoff);
  if (offered.obstacle != Obstacle::kNone) return offered;
  const std::optional<Acceptance> acceptance = wait_for_answer(handoff.ticket);
  if (!acceptance) {
    const bool silent = errno == EAGAIN;
    return disconnect({silent ? Obstacle::kBusy : Obstacle::kDown, errno, true}, now_ns);
  }
  if (*acceptance != Acceptance::kAccepted) {
    return {Obstacle::kRefused, *acceptance == Acceptance::kUnfit ? EBADF : ENOSPC, false};
  }
  const Result begun = send({}, {.kind = RecordKind::kBegin, .ticket = handoff.ticket});
  if (begun.obstacle == Obstacle::kNone) return begun;
  return disconnect(begun, now_ns);
}

// None: errno says why.
std::optional<Acceptance> Client::wait_for_answer(std::uint64_t ticket) {
  pollfd waiting{fd_.get(), POLLIN, 0};
  while (poll(&waiting, 1, kAnswerWaitMs) < 0 && errno == EINTR) {
  }
  Answer answer;
  const ssize_t n = recv(fd_.get(), &answer, sizeof answer, MSG_DONTWAIT);
  if (n < 0) return std::nullopt;
  const auto bytes = std::as_bytes(std::span(&answer, 1)).first(static_cast<std::size_t>(n));
  if (decode_answer(bytes, answer) && answer.ticket == ticket) return answer.acceptance;
  errno = ECONNRESET;
  return std::nullopt;
}

Client::Result Client::send(std::span<const int> descriptors, const Handoff& handoff) {
  const Record record = encode(handoff);
  if (send_message(fd_.get(), std::as_bytes(std::span(&record, 1)), descriptors)) return {};
  // EBADF is what is to be sent: our own connection's number never goes. It says nothing of
  // lingerd.
  const int error = errno;
  return {is_gone(error) ? Obstacle::kDown : obstacle_of(error), error, error != EBADF};
}

Client::Result Client::make_ready(std::uint64_t now_ns, std::uint64_t times_up) {
  switch (state_.load(std::memory_order_relaxed)) {
    case State::kReady: return {};
    case State::kGreeting: return read_greeting(now_ns);
    case State::kDisconnected: break;
  }
  const bool up_elsewhere = times_up != times_up_;
  times_up_ = times_up;
  if (!up_elsewhere && !backoff_.may_try(now_ns)) return {last_.obstacle, last_.error, false};
  const Result result = connect(now_ns);
  return result.obstacle == Obstacle::kGreeting ? read_greeting(now_ns) : result;
}

Client::Result Client::reconnect(std::uint64_t now_ns) {
  backoff_.reset();
  const Result result = connect(now_ns);
  return result.obstacle == Obstacle::kGreeting ? read_greeting(now_ns) : result;
}

// kGreeting when the connection stands. connect() on a Unix socket doesn't wait: it succeeds, or
// fails (with EAGAIN when the listener's backlog is full).
Client::Result Client::connect(std::uint64_t now_ns) {
  state_.store(State::kDisconnected, std::memory_order_release);
  way_is_good_.store(false, std::memory_order_release);
  UniqueFd fresh = new_socket();
  if (!fd_) fd_ = new_socket();  // descriptors had run out when this child started
  if (!fresh || !fd_) return disconnect({obstacle_of(errno), errno, true}, now_ns);
  if (const int error = connect_to(fresh, unix_address(path_)); error != 0) {
    return disconnect({obstacle_of(error), error, true}, now_ns);
  }
  if (dup3(fresh.get(), fd_.get(), O_CLOEXEC) < 0) {
    return disconnect({Obstacle::kBusy, errno, true}, now_ns);
  }
  connected_ns_ = now_ns;
  state_.store(State::kGreeting, std::memory_order_release);
  return {Obstacle::kGreeting, 0, true};
}

Client::Result Client::read_greeting(std::uint64_t now_ns) {
  Greeting greeting;
  const ssize_t n = recv(fd_.get(), &greeting, sizeof greeting, MSG_DONTWAIT);
  if (n < 0 && is_transient(errno)) {
    // Silent for that long it's stopped or stuck, which is to be said. (A sum, not a difference:
    // this thread's now may be older than that of the one that connected.)
    if (now_ns > connected_ns_ + kGreetingPatienceNs) return {Obstacle::kBusy, EAGAIN, true};
    // Until lingerd says otherwise it is as it was: a new connection to one that denies us, or that
    // is of another version, would otherwise count as a busy one for a moment.
    if (last_.obstacle != Obstacle::kNone) return {last_.obstacle, last_.error, false};
    return {Obstacle::kGreeting, 0, true};
  }
  if (n <= 0) return disconnect({Obstacle::kDown, n < 0 ? errno : ECONNRESET, true}, now_ns);
  const auto bytes = std::as_bytes(std::span(&greeting, 1)).first(static_cast<std::size_t>(n));
  std::uint64_t kinds = 0;
  switch (decode_greeting(bytes, kinds)) {
    case GreetingResult::kWelcome:
      kinds_.store(kinds, std::memory_order_relaxed);
      backoff_.reset();
      last_ = {};
      state_.store(State::kReady, std::memory_order_release);
      return {};
    case GreetingResult::kDenied: return disconnect({Obstacle::kDenied, 0, true}, now_ns);
    case GreetingResult::kFull: return disconnect({Obstacle::kBusy, EMFILE, true}, now_ns);
    case GreetingResult::kOtherVersion:
    case GreetingResult::kGarbage: break;
  }
  return disconnect({Obstacle::kOtherVersion, 0, true}, now_ns);
}

Client::Result Client::disconnect(Result why, std::uint64_t now_ns) {
  state_.store(State::kDisconnected, std::memory_order_release);
  if (UniqueFd unconnected = new_socket(); unconnected && fd_) {
    dup3(unconnected.get(), fd_.get(), O_CLOEXEC);  // lets go of the connection, keeps the number
  }
  backoff_.failed(now_ns);
  last_ = why;
  return why;
}

}  // namespace lingerd
