// SPDX-License-Identifier: Apache-2.0
// Random lives of sockets against a reference that knows only what was promised: arrivals, bytes,
// FIN, RST, responses taken, time in small and in large steps, capacity, restarts. After each step
// the books must balance. A failure prints its seed: LINGERER_MODEL_SEED=N runs that one alone,
// LINGERER_MODEL_RUNS=N as many of them.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/capacity.h"
#include "lingerd/core/carry.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/deliveries.h"
#include "lingerd/core/drain.h"
#include "lingerd/core/lingerer.h"
#include "lingerd/core/shares.h"
#include "t/unit/model_runs.h"
#include "t/unit/no_deliveries.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;
using enum DaemonCounter;

namespace {

constexpr std::uint64_t kMilli = 1'000'000;
constexpr std::uint64_t kMostPerLook = 1'000;  // what this kernel gives at once
constexpr std::uint32_t kMaxTimeMs = 60'000;

enum class Found { kOpen, kEof, kReset, kNotConnected };

// A socket as the kernel and the client have it, and what the reference knows of its linger.
struct Socket {
  std::uint64_t bytes = 0;  // waiting to be read
  std::uint64_t unsent = 0;
  bool fin = false;
  bool reset = false;
  bool connected = true;
  bool refuses_watch = false;

  Found found = Found::kOpen;  // by the latest look
  bool last_look_took = false;
  std::uint64_t drained = 0;
  std::uint64_t seen_unsent = 0;
  bool watched = false;
  std::uint32_t generation = 0;

  Shares::User user = 0;  // of the peer
  std::uint64_t started_ms = 0;
  std::uint32_t cap_ms = 0;
  std::uint32_t idle_ms = 0;
  std::uint64_t cap_deadline_ms = 0;
  std::uint64_t alive_ms = 0;  // lingerd last saw a sign of life
  std::uint64_t alive_before_ms = 0;
  std::uint64_t late_ms = 0;  // by how much its looks may have come late

  [[nodiscard]] bool taking() const { return seen_unsent > kOnlyFin; }
  // Silence from alive_ms on ends it here. A client that still takes its response is looked at in
  // quarters of that time, of a millisecond at least.
  [[nodiscard]] std::uint64_t silent_until() const {
    const std::uint64_t quarters = 4 * std::max<std::uint64_t>(idle_ms / 4, 1);
    return alive_ms + (taking() ? quarters : idle_ms);
  }
  [[nodiscard]] std::uint64_t ends_by() const {
    return watched ? std::min(cap_deadline_ms, silent_until()) : cap_deadline_ms;
  }
};

class Kernel final : public SocketOps {
 public:
  explicit Kernel(const std::uint64_t& now_ms) : now_ms_(now_ms) {}

  DrainResult drain(SocketId id) override {
    Socket& socket = at(id, "drain");
    if (!may_look) trouble = "looked at a socket because of another's event";
    using State = DrainResult::State;
    const auto is = [&socket](Found found, State state) {
      socket.found = found;
      socket.last_look_took = false;
      return DrainResult{state, 0};
    };
    if (!socket.connected) return is(Found::kNotConnected, State::kNotConnected);
    if (socket.bytes == 0 && socket.reset) return is(Found::kReset, State::kReset);
    if (socket.bytes == 0 && socket.fin) return is(Found::kEof, State::kEof);
    DrainResult open = is(Found::kOpen, State::kOpen);
    if (socket.bytes == 0) return open;
    open.bytes = std::min(socket.bytes, kMostPerLook);
    if (socket.drained == 0) ++rescued;
    socket.last_look_took = true;
    socket.bytes -= open.bytes;
    socket.drained += open.bytes;
    drained += open.bytes;
    socket.alive_before_ms = std::exchange(socket.alive_ms, now_ms_);
    return open;
  }

  std::uint64_t unsent(SocketId id) override {
    Socket& socket = at(id, "unsent");
    // The acknowledgement of our FIN alone is none.
    if (socket.taking() && socket.unsent < socket.seen_unsent) socket.alive_ms = now_ms_;
    socket.seen_unsent = socket.unsent;
    return socket.unsent;
  }

  bool watch(SocketId id, std::uint32_t generation) override {
    Socket& socket = at(id, "watch");
    if (socket.watched) trouble = "watched twice";
    if (socket.refuses_watch) return false;
    socket.watched = true;
    socket.generation = generation;
    ++watched;
    if (restarting) return true;  // no sign of life
    peak = std::max(peak, watched);
    socket.alive_ms = now_ms_;
    return true;
  }

  void close(SocketId id, bool was_watched) override {
    const Socket socket = at(id, "close");
    if (socket.watched != was_watched) trouble = "closed with a wrong idea of its registration";
    if (socket.watched) --watched;
    ends.emplace_back(id, socket);
    open.erase(id);
  }

  std::map<SocketId, Socket> open;
  std::vector<std::pair<SocketId, Socket>> ends;  // since the last check
  std::uint64_t watched = 0;
  std::uint64_t peak = 0;
  std::uint64_t drained = 0;
  std::uint64_t rescued = 0;
  bool restarting = false;
  bool may_look = true;
  std::string trouble;

 private:
  Socket& at(SocketId id, const char* operation) {
    const auto it = open.find(id);
    if (it != open.end()) return it->second;
    trouble = std::string(operation) + " on a socket that is closed";
    static Socket nothing;
    return nothing;
  }
  const std::uint64_t& now_ms_;
};

enum class Operation { kArrive, kClient, kEvents, kSettle, kExpire, kLimits, kRestart, kEndAll };

class Model : private RandomModel {
 public:
  explicit Model(std::uint64_t seed) : RandomModel("LINGERER", seed) {
    many_durations_ = pick(8) == 0;
    max_connections_ = 1 + static_cast<std::uint32_t>(pick(60));
    now_ms_ = 1'000'000 + pick(1'000'000);
    capacity_.emplace(counters_, max_connections_);
    deliveries_.emplace(no_deliveries_, *capacity_, counters_);
    lingerer_.emplace(kernel_, *deliveries_, *capacity_, counters_, max_time_ms_);
    expected_[kQueueLimit] = max_connections_;
  }

  void run(int steps) {
    for (step_ = 0; step_ < steps; ++step_) {
      take_step();
      check();
    }
    operation_ = Operation::kEndAll;
    lingerer_->end_all(now_ns());
    check();
    expect(kernel_.open.empty(), "a socket was left open");
    expect(!lingerer_->next_deadline(), "a deadline was left");
  }

 private:
  void expect(bool holds, const std::string& what) const {
    if (holds) return;
    const std::string operation = std::to_string(static_cast<int>(operation_));
    FAIL(failed(what, "operation " + operation).c_str());
  }

  void take_step();
  void arrive();
  void client_acts();
  void events();
  void time_passes(std::uint64_t ms);
  void time_jumps(std::uint64_t ms);
  void expire();
  void change_limits();
  void restart();

  void check();
  [[nodiscard]] DaemonCounter expected_end(SocketId id, const Socket& socket) const;
  [[nodiscard]] DaemonCounter expected_way_to_give_up(const Socket& socket) const;
  void check_given_up(SocketId id, Socket socket, DaemonCounter how) const;
  void check_holds_most(const Socket& socket) const;
  void check_counters();

  std::uint32_t max_connections_ = 0;
  std::uint32_t max_time_ms_ = kMaxTimeMs;
  bool many_durations_ = false;  // more than lingerd keeps exactly
  Kernel kernel_{now_ms_};
  DaemonCounters counters_;
  std::optional<Capacity> capacity_;
  NoDeliveries no_deliveries_;
  std::optional<Deliveries> deliveries_;
  std::optional<Lingerer> lingerer_;
  DaemonCounters expected_;
  Operation operation_ = Operation::kArrive;
  std::optional<SocketId> arriving_;
  Shares::User arriving_user_ = 0;
  std::vector<std::pair<SocketId, std::uint32_t>> gone_;  // the latest, with their generation
};

void Model::take_step() {
  const std::uint64_t dice = pick(40);
  if (dice < 12) return arrive();
  if (dice < 20) return client_acts();
  if (dice < 27) return events();
  if (dice < 36) return time_passes(pick(pick(4) == 0 ? 8'000 : 400));
  if (dice == 36) return time_jumps(pick(pick(3) == 0 ? 100'000 : 3'000));
  if (dice == 37) return change_limits();
  if (dice == 38) return restart();
  operation_ = Operation::kSettle;
  lingerer_->settle(now_ns());
}

void Model::arrive() {
  operation_ = Operation::kArrive;
  // The lowest free number, as the kernel gives it: numbers come back at once.
  SocketId id = 3;
  while (kernel_.open.contains(id)) ++id;
  static constexpr std::uint32_t kDurations[] = {1, 3, 200, 2'000, 5'000, 30'000, 3'600'000};
  const auto duration = [&] {
    return many_durations_ ? static_cast<std::uint32_t>(1 + pick(20'000))
                           : kDurations[pick(std::size(kDurations))];
  };
  Handoff handoff;
  handoff.idle_ms = duration();
  handoff.cap_ms = duration();
  // Mostly a moment ago; now and then what a hostile peer makes up.
  handoff.handed_off_ns = pick(20) == 0 ? random_() : now_ns() - pick(3 * kMilli);

  static constexpr Shares::User kUsers[] = {33, 33, 33, 1'000, 4'711};
  handoff.user = kUsers[pick(std::size(kUsers))];

  Socket socket;
  socket.user = handoff.user;
  socket.idle_ms = std::min(handoff.idle_ms, max_time_ms_);
  socket.cap_ms = std::min(handoff.cap_ms, max_time_ms_);
  socket.started_ms = std::clamp(handoff.handed_off_ns / kMilli, now_ms_ - max_time_ms_, now_ms_);
  socket.connected = pick(30) != 0;
  socket.refuses_watch = pick(40) == 0;
  socket.bytes = pick(3) == 0 ? pick(3'000) : 0;
  socket.unsent = pick(3) == 0 ? pick(100'000) : pick(2);
  socket.fin = pick(4) == 0;
  socket.reset = pick(16) == 0;
  // Lists are sorted: a socket that started late, but came early, keeps the others of its list
  // back. The one evicted for this one goes first, so its deadline counts no more.
  kernel_.open.emplace(id, socket);
  arriving_ = id;
  arriving_user_ = socket.user;
  lingerer_->arrive(id, handoff, now_ns(), pick(2) == 0);
  const auto it = kernel_.open.find(id);
  if (it == kernel_.open.end()) return;
  std::uint64_t& deadline = it->second.cap_deadline_ms;
  deadline = socket.started_ms + socket.cap_ms;
  for (const auto& [other, one] : kernel_.open) {
    if (other != id && one.user == socket.user && one.cap_ms == socket.cap_ms && !many_durations_) {
      deadline = std::max(deadline, one.cap_deadline_ms);
    }
  }
}

void Model::client_acts() {
  operation_ = Operation::kClient;
  if (kernel_.open.empty()) return;
  const auto which = static_cast<std::ptrdiff_t>(pick(kernel_.open.size()));
  Socket& socket = std::next(kernel_.open.begin(), which)->second;
  const std::uint64_t dice = pick(20);
  if (dice < 7) {
    if (!socket.fin && !socket.reset) socket.bytes += 1 + pick(2'500);
  } else if (dice < 14) {
    // A part of it, or all but perhaps our FIN.
    socket.unsent = pick(3) == 0 ? std::min(socket.unsent, pick(2)) : pick(socket.unsent + 1);
  } else if (dice < 17) {
    socket.fin = true;
  } else if (dice < 19) {
    socket.reset = true;
  } else {
    socket.connected = false;  // by a process that shares it
  }
}

// What epoll would report, and what it may report late: for a number that is another's by now.
void Model::events() {
  operation_ = Operation::kEvents;
  for (const auto& [id, socket] : std::map(kernel_.open)) {
    const bool readable = socket.bytes > 0 || socket.fin || socket.reset || !socket.connected;
    if (socket.watched && (readable || pick(10) == 0) && pick(3) != 0) {
      lingerer_->ready(id, socket.generation, now_ns());
    }
  }
  kernel_.may_look = false;
  for (const auto& [id, generation] : gone_) lingerer_->ready(id, generation, now_ns());
  lingerer_->ready(4'000'000'000U, 1, now_ns());
  kernel_.may_look = true;
}

// As the loop does: wakes at each deadline.
void Model::time_passes(std::uint64_t ms) {
  const std::uint64_t until = now_ms_ + ms;
  for (auto next = lingerer_->next_deadline(); next && *next <= until;
       next = lingerer_->next_deadline()) {
    now_ms_ = std::max(now_ms_, *next);
    expire();
  }
  now_ms_ = until;
  expire();
}

// As after SIGSTOP.
void Model::time_jumps(std::uint64_t ms) {
  now_ms_ += ms;
  for (auto& [id, socket] : kernel_.open) socket.late_ms += ms;
  expire();
}

void Model::expire() {
  operation_ = Operation::kExpire;
  const std::size_t budget = 1 + pick(5);
  lingerer_->expire(now_ns(), budget);
  expect(kernel_.ends.size() <= budget, "more deadlines at once than allowed");
  lingerer_->expire(now_ns(), 1'000'000);
  const auto next = lingerer_->next_deadline();
  expect(!next || *next > now_ms_, "a deadline has come and nothing was done");
  check();
  for (const auto& [id, socket] : kernel_.open) {
    if (many_durations_) continue;  // rounded up
    expect(socket.cap_deadline_ms > now_ms_, "it outlives its cap");
    expect(!socket.watched || socket.silent_until() + socket.late_ms > now_ms_,
           "it is silent for too long");
  }
}

void Model::change_limits() {
  operation_ = Operation::kLimits;
  static constexpr std::uint32_t kTimes[] = {1'000, 10'000, kMaxTimeMs};
  max_connections_ = 1 + static_cast<std::uint32_t>(pick(60));
  max_time_ms_ = kTimes[pick(std::size(kTimes))];
  lingerer_->set_max_time(max_time_ms_);
  capacity_->set_limit(max_connections_, now_ns());
  expected_[kQueueLimit] = max_connections_;
}

// Everything goes to another lingerd, in the form in which it travels.
void Model::restart() {
  operation_ = Operation::kSettle;
  lingerer_->settle(now_ns());
  check();
  operation_ = Operation::kRestart;
  CarriedState left;
  left.counters = counters_;
  std::vector<SocketId> ids;
  for (const auto& [id, socket] : lingerer_->carry_out()) {
    ids.push_back(id);
    left.sockets.push_back(socket);
  }
  CarriedState state;
  expect(decode(encode(left), now_ms_, state) == CarryResult::kOk, "the state came back wrong");
  std::vector<Lingerer::Carried> sockets;
  for (std::size_t i = 0; i < ids.size(); ++i) sockets.push_back({ids[i], state.sockets[i]});
  for (auto& [id, socket] : kernel_.open) socket.watched = false;
  kernel_.watched = 0;
  kernel_.restarting = true;
  gone_.clear();  // so is the epoll instance that could report them
  capacity_.emplace(counters_, max_connections_);
  deliveries_.emplace(no_deliveries_, *capacity_, counters_);
  lingerer_.emplace(kernel_, *deliveries_, *capacity_, counters_, max_time_ms_);
  go_on_from(state.counters, counters_);
  lingerer_->carry_in(std::move(sockets), now_ns());
  capacity_->make_room(0, now_ns());
  kernel_.restarting = false;
}

// ---- What must hold after each step ----

void Model::check() {
  expect(kernel_.trouble.empty(), kernel_.trouble);
  for (const auto& [id, socket] : kernel_.ends) {
    if (socket.watched) gone_.emplace_back(id, socket.generation);
    if (gone_.size() > 20) gone_.erase(gone_.begin());
    const DaemonCounter end = expected_end(id, socket);
    if (end == kRejected) {
      ++expected_[kRejected];
      continue;
    }
    if (socket.found == Found::kOpen) check_given_up(id, socket, end);
    ++expected_[end];
    ++expected_[kTotal];
    expected_[kWorkerMillisFreed] += now_ms_ - socket.started_ms;
  }
  expected_[kTotal] += kernel_.watched - expected_[kQueue];
  expected_[kQueue] = kernel_.watched;
  kernel_.ends.clear();
  arriving_.reset();
  check_counters();
  expect(lingerer_->size() == kernel_.open.size(), "it lost or kept a descriptor");
  expect(lingerer_->size() <= max_connections_, "over the limit");
  expect(lingerer_->size() == 0 || lingerer_->next_deadline(), "one lingers without a deadline");
}

DaemonCounter Model::expected_end(SocketId id, const Socket& socket) const {
  switch (socket.found) {
    case Found::kEof: return kClosedByClient;
    case Found::kReset: return kClosedByReset;
    case Found::kNotConnected:
      // Never a socket of ours, or the connection of one that was is over; unless its time was over
      // first.
      if (operation_ == Operation::kSettle || id == arriving_) return kRejected;
      if (operation_ == Operation::kEvents) return kClosedByReset;
      if (operation_ == Operation::kExpire && now_ms_ < socket.cap_deadline_ms) {
        return kClosedByReset;
      }
      break;
    case Found::kOpen: break;
  }
  return expected_way_to_give_up(socket);
}

DaemonCounter Model::expected_way_to_give_up(const Socket& socket) const {
  switch (operation_) {
    case Operation::kExpire: return now_ms_ >= socket.cap_deadline_ms ? kClosedCap : kClosedIdle;
    case Operation::kEndAll: return kClosedCap;
    case Operation::kArrive:
    case Operation::kSettle:
    case Operation::kLimits:
    case Operation::kRestart: return kEvicted;
    case Operation::kClient:
    case Operation::kEvents: break;
  }
  expect(false, "a linger ended for no reason");
  return kCount;
}

// Its client was still there: why did it have to go?
void Model::check_given_up(SocketId id, Socket socket, DaemonCounter how) const {
  if (how == kClosedIdle) {
    expect(socket.watched, "it never had a chance to be silent");
    expect(now_ms_ >= socket.silent_until(), "it wasn't silent for long enough");
    expect(socket.bytes == 0, "its client has sent something");
  } else if (operation_ == Operation::kSettle || id == arriving_) {
    expect(socket.refuses_watch, "it was evicted although there was room");
  } else if (how == kEvicted && operation_ != Operation::kRestart) {
    check_holds_most(socket);
    if (many_durations_) return;
    // What it sent was taken when its fate was sealed.
    if (socket.last_look_took) socket.alive_ms = socket.alive_before_ms;
    for (const auto& [other, one] : kernel_.open) {
      // Known exactly of those that take nothing, and that wait in no list with those that do: a
      // quarter of the shortest times is a millisecond, too.
      if (other == arriving_ || one.user != socket.user ||
          (one.watched && (one.taking() || one.idle_ms == 1)))
        continue;
      expect(socket.ends_by() <= one.ends_by(), "another one would have ended before the evicted");
    }
  }
}

// Its user had as much as any other when it had to go, the one that has arrived included; now one
// fewer.
void Model::check_holds_most(const Socket& socket) const {
  std::map<Shares::User, std::size_t> held;
  if (arriving_ && !kernel_.open.contains(*arriving_)) ++held[arriving_user_];
  for (const auto& [other, one] : kernel_.open) ++held[one.user];
  for (const auto& [user, count] : held) {
    const auto own = held.find(socket.user);
    expect((own == held.end() ? 0 : own->second) + 1 >= count, "another user holds more");
  }
}

void Model::check_counters() {
  const DaemonCounters& counters = counters_;
  expected_[kQueuePeak] = kernel_.peak;
  expected_[kDrainedBytes] = kernel_.drained;
  expected_[kRescued] = kernel_.rescued;
  expect(counters[kOverShare] <=
             counters[kEvicted] + counters[kClosedByClient] + counters[kClosedByReset],
         "more over their share than have ended");
  expected_[kOverShare] = counters[kOverShare];
  expect(adds_up(counters), "LingerTotal isn't the queue and every end");
  if (many_durations_) {
    // Which of two deadlines came first depends on how they were rounded.
    const std::uint64_t either = expected_[kClosedIdle] + expected_[kClosedCap];
    expect(counters[kClosedIdle] + counters[kClosedCap] + counters[kClosedByReset] ==
               either + expected_[kClosedByReset],
           "ends at a deadline");
    for (const DaemonCounter c : {kClosedIdle, kClosedCap, kClosedByReset}) {
      expected_[c] = counters[c];
    }
  }
  for (std::size_t i = 0; i < kDaemonCounters; ++i) {
    expect(counters.array()[i] == expected_.array()[i],
           std::string(kDaemonCounterInfo[i].key) + " is " + std::to_string(counters.array()[i]) +
               ", should be " + std::to_string(expected_.array()[i]));
  }
}

}  // namespace

TEST_GROUP(LingererModel){};

TEST(LingererModel, keeps_every_promise_in_random_lives) {
  run_model<Model>("LINGERER");
}
