// SPDX-License-Identifier: Apache-2.0
#include "tools/ablinger/load.h"

#include <sys/epoll.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

namespace ablinger {
namespace {

constexpr std::int64_t kRetryAfter = 10 * kMillisecond;   // after a failure: no spinning
constexpr std::int64_t kReadTurn = 50 * kMillisecond;     // of a slow reader
constexpr std::int64_t kTrickleTurn = 20 * kMillisecond;  // at most so often
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

std::int64_t read_clock() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

std::size_t descriptor_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

// A trickle of less than a byte a turn takes longer turns.
std::int64_t trickle_turn(std::uint64_t rate) {
  return std::max(kTrickleTurn, kSecond / static_cast<std::int64_t>(rate));
}

}  // namespace

Load::Load(const Options& options, const Share& share)
    : options_(options),
      share_(share),
      script_(options),
      target_(options),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      connections_(descriptor_limit()),
      random_(share.seed + 1) {
  if (!epoll_) throw std::system_error(errno, std::generic_category(), "epoll_create1");
  for (unsigned i = 0; i < options.late_tables; ++i) late_tables_.emplace_back();
}

Results Load::run(const std::atomic<bool>& stop) {
  std::array<epoll_event, 256> events{};
  const std::int64_t begin = read_clock();
  std::int64_t now = begin;
  count_from_ = begin + options_.warmup;
  end_ = options_.duration > 0 ? count_from_ + options_.duration : kNever;
  next_start_ = begin;
  last_response_ = count_from_;
  timers_.push({begin + kSecond, Due::kSweep, 0, 0});
  for (unsigned slot = 0; slot < share_.slots; ++slot) release(slot, now);
  while (!stop.load(std::memory_order_relaxed) && !finished(now)) {
    const int ready = epoll_wait(epoll_.get(), events.data(), events.size(), wait_millis(now));
    ++results_.waits;
    for (int i = 0; i < ready; ++i) {
      advance(connections_[static_cast<std::size_t>(events[i].data.fd)], now = read_clock());
    }
    expire(now = read_clock());
    if (!late_tables_.empty()) serve_late_tables();
  }
  results_.whole_time = now - begin;
  const std::int64_t counted_until = options_.requests > 0 ? last_response_ : now;
  results_.counted_time = std::max<std::int64_t>(std::min(counted_until, end_) - count_from_, 0);
  return std::move(results_);
}

bool Load::finished(std::int64_t now) const {
  return now >= end_ || (idle_slots_ == share_.slots && late_ == 0);
}

int Load::wait_millis(std::int64_t now) const {
  std::int64_t left = std::min(timers_.top().when, end_) - now;
  if (!late_tables_.empty()) left = std::min(left, kMillisecond);  // to hear what they have closed
  return left <= 0 ? 0 : static_cast<int>((left + kMillisecond - 1) / kMillisecond);
}

// A slot is free: its next request starts now, later, or never.
void Load::release(unsigned slot, std::int64_t now) {
  if (share_.requests > 0 && asked_ >= share_.requests) {
    ++idle_slots_;
    return;
  }
  if (late_ >= share_.max_late) {
    ++results_.held_back;
    held_back_.push_back(slot);
    return;
  }
  ++asked_;
  if (share_.rate <= 0) return start(slot, now);
  const std::int64_t when = std::max(now, next_start_);
  next_start_ = when + static_cast<std::int64_t>(static_cast<double>(kSecond) / share_.rate);
  timers_.push({when, Due::kStart, slot, 0});
}

void Load::start(unsigned slot, std::int64_t now) {
  lingerd::UniqueFd fd = target_.connect();
  const int number = fd.get();
  if (!fd || static_cast<std::size_t>(number) >= connections_.size()) {
    results_.count(Error::kConnect);
    timers_.push({now + kRetryAfter, Due::kRelease, slot, 0});
    return;
  }
  ++results_.connections;
  SslPtr ssl = target_.tls() ? target_.new_tls(number) : SslPtr();
  Connection& connection = connections_[static_cast<std::size_t>(number)];
  connection.open(Transport(std::move(fd), std::move(ssl)), slot, now);
  read_later(connection, now);
  advance(connection, now);
}

void Load::read_later(Connection& connection, std::int64_t now) {
  if (options_.stall > 0 || options_.read_rate > 0) {
    set_timer(connection, Due::kStep, now + std::max<std::int64_t>(options_.stall, kMillisecond));
  }
}

void Load::advance(Connection& connection, std::int64_t now) {
  if (connection.phase() == Connection::Phase::kFree) return;
  const bool was_sending = !connection.all_sent();
  settle(connection, connection.step(options_, script_, results_), now);
  if (was_sending && connection.all_sent() && connection.phase() == Connection::Phase::kLate) {
    set_timer(connection, Due::kClose, now + options_.late.sample(random_));
  }
}

void Load::settle(Connection& connection, Connection::Outcome outcome, std::int64_t now) {
  switch (outcome) {
    case Connection::Outcome::kGoesOn: return watch(connection);
    case Connection::Outcome::kResponse: return on_response(connection);
    case Connection::Outcome::kFailed: return on_failure(connection, connection.error(), now);
    case Connection::Outcome::kCutShort: return end_late(connection, now, true);
  }
}

void Load::watch(Connection& connection) {
  if (connection.epoll_interest() == 0) return;
  epoll_event event{};
  event.events = connection.epoll_interest() | EPOLLONESHOT;
  event.data.fd = connection.fd();
  const int op = connection.watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  epoll_ctl(epoll_.get(), op, connection.fd(), &event);
  connection.watched = true;
}

void Load::on_response(Connection& connection) {
  const std::int64_t now = last_response_ = read_clock();
  if (now >= count_from_ && now < end_) {
    ++results_.completed;
    results_.latency.record(static_cast<std::uint64_t>(now - connection.asked_at()));
  } else {
    ++results_.uncounted;
  }
  const bool requests_left = share_.requests == 0 || asked_ < share_.requests;
  if (requests_left && connection.may_ask_again(options_)) return go_on(connection, now);
  if (options_.late.none() && options_.trickle == 0 && connection.all_sent()) {
    const unsigned slot = *connection.slot;
    connection.close(options_);
    return release(slot, now);
  }
  become_late(connection, now);
}

void Load::go_on(Connection& connection, std::int64_t now) {
  ++asked_;
  connection.think();
  if (!options_.think.none()) {
    return set_timer(connection, Due::kAskAgain, now + options_.think.sample(random_));
  }
  connection.ask_again(now);
  read_later(connection, now);
  advance(connection, now);
}

void Load::become_late(Connection& connection, std::int64_t now) {
  ++late_;
  results_.late_peak = std::max(results_.late_peak, late_);
  if (!late_tables_.empty()) return put_aside(connection, now);
  connection.become_late();
  if (connection.all_sent()) {
    set_timer(connection, Due::kClose, now + options_.late.sample(random_));
  } else {
    watch(connection);  // the rest of an upload, or late bytes
  }
  if (options_.trickle > 0) {
    set_timer(connection, Due::kTrickle, now + trickle_turn(options_.trickle));
  }
  if (options_.detach) release(*std::exchange(connection.slot, std::nullopt), now);
}

// The table closes it in time; this thread needs its descriptor no more.
void Load::put_aside(Connection& connection, std::int64_t now) {
  late_tables_[next_table_].take(connection.give_up(), now + options_.late.sample(random_));
  next_table_ = (next_table_ + 1) % late_tables_.size();
  release(*std::exchange(connection.slot, std::nullopt), now);
}

void Load::serve_late_tables() {
  std::uint64_t closed = 0;
  for (LateTable& table : late_tables_) {
    table.send_batch();
    closed += table.closed();
  }
  const std::uint64_t fresh = closed - std::exchange(results_.late_closes, closed);
  late_ -= fresh;
  for (std::uint64_t i = 0; i < fresh && !held_back_.empty(); ++i) let_one_go_on(read_clock());
}

void Load::let_one_go_on(std::int64_t now) {
  if (held_back_.empty() || late_ >= share_.max_late) return;
  const unsigned next = held_back_.front();
  held_back_.pop_front();
  release(next, now);
}

void Load::on_failure(Connection& connection, Error error, std::int64_t now) {
  if (error != Error::kTimeout && connection.gone_stale()) {
    ++results_.stale;
    timers_.push({now, Due::kStart, *connection.slot, 0});
  } else {
    results_.count(error);
    timers_.push({now + kRetryAfter, Due::kRelease, *connection.slot, 0});
  }
  connection.close(options_);
}

void Load::end_late(Connection& connection, std::int64_t now, bool cut_short) {
  ++(cut_short ? results_.late_cut_short : results_.late_closes);
  --late_;
  const std::optional<unsigned> slot = connection.slot;
  connection.close(options_);
  if (slot) release(*slot, now);
  let_one_go_on(now);
}

void Load::set_timer(Connection& connection, Due due, std::int64_t when) {
  timers_.push({when, due, static_cast<unsigned>(connection.fd()), connection.timer_serial});
}

void Load::expire(std::int64_t now) {
  while (!timers_.empty() && timers_.top().when <= now) {
    const Timer timer = timers_.top();
    timers_.pop();
    fire(timer, now);
  }
}

void Load::fire(const Timer& timer, std::int64_t now) {
  if (timer.due == Due::kSweep) return sweep(now);
  if (timer.due == Due::kRelease) return release(timer.index, now);
  if (timer.due == Due::kStart) return start(timer.index, now);
  Connection& connection = connections_[timer.index];
  if (connection.timer_serial != timer.serial) return;  // closed since
  switch (timer.due) {
    case Due::kClose: return end_late(connection, now, false);
    case Due::kAskAgain:
      connection.ask_again(now);
      read_later(connection, now);
      return advance(connection, now);
    case Due::kTrickle: {
      const std::int64_t turn = trickle_turn(options_.trickle);
      const auto bytes = static_cast<std::int64_t>(options_.trickle) * turn / kSecond;
      const auto outcome = connection.trickle(static_cast<std::uint64_t>(bytes), results_);
      if (outcome != Connection::Outcome::kGoesOn) return end_late(connection, now, true);
      return set_timer(connection, Due::kTrickle, now + turn);
    }
    default:  // kStep: a slow reader's turn
      if (connection.phase() == Connection::Phase::kLate) return;
      if (options_.read_rate > 0) set_timer(connection, Due::kStep, now + kReadTurn);
      connection.allow_reading(options_.read_rate > 0 ? options_.read_rate / (kSecond / kReadTurn)
                                                      : std::numeric_limits<std::uint64_t>::max());
      return advance(connection, now);
  }
}

// Requests that take too long.
void Load::sweep(std::int64_t now) {
  for (Connection& connection : connections_) {
    if (connection.overdue(now, options_.timeout)) on_failure(connection, Error::kTimeout, now);
  }
  timers_.push({now + kSecond, Due::kSweep, 0, 0});
}

}  // namespace ablinger
