// SPDX-License-Identifier: Apache-2.0
// Random stays of idle connections against a reference that knows only what was promised: arrivals,
// requests, FIN, RST, full and vanished listeners, time in small and in large steps, capacity,
// restarts. After each step the books must balance. A failure prints its seed:
// PARKED_MODEL_SEED=N runs that one alone, PARKED_MODEL_RUNS=N as many of them.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/capacity.h"
#include "lingerd/core/carry.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/parked.h"
#include "lingerd/core/return_lines.h"
#include "lingerd/core/shares.h"
#include "t/unit/model_runs.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;
using enum DaemonCounter;

namespace {

constexpr std::uint64_t kMilli = 1'000'000;
constexpr std::uint64_t kLongestRetry = ReturnLines::kLongestRetryMs;
constexpr AddressId kListeners = 4;
constexpr std::uint32_t kNoLimit = 1'000'000;

// A connection as the kernel and the client have it, and what the reference knows of its stay.
struct Client {
  bool bytes = false;
  bool closed = false;  // FIN
  bool reset = false;
  bool refuses_watch = false;
  bool home = false;        // the guard has sent it
  bool claimed = false;     // from the guard
  std::uint32_t armed = 0;  // generation; 0: epoll says nothing

  AddressId address = 0;
  Shares::User user = 0;  // of the peer
  Return state;
  std::uint32_t idle_ms = 0;
  std::uint32_t cap_ms = 0;
  std::uint64_t arrived_ms = 0;
  std::uint64_t deadline_ms = 0;
  std::optional<std::uint64_t> returning_ms;  // since; it is in line then
  std::uint64_t place = 0;                    // in that line

  [[nodiscard]] bool asks() const { return bytes && !reset; }
  [[nodiscard]] bool gone() const { return reset || (closed && !bytes); }
};

enum class Way { kFree, kFull, kGone };

// What the reference knows of a line.
struct Line {
  std::uint64_t tried_ms = 0;
  std::uint64_t refused_ms = 0;
  std::uint64_t taken_ms = 0;
};
enum class End { kReturned, kClosed, kLingers };

class World final : public ParkOps {
 public:
  explicit World(const std::uint64_t& now_ms) : now_ms_(now_ms) {}

  bool watch(SocketId id, std::uint32_t generation, Watch how) override {
    const bool again = how != Watch::kFirst;
    Client& client = at(id, "watch");
    if (client.armed != 0) trouble = "watched twice";
    if (!again && !seen.insert({id, generation}).second) trouble = "a generation came again";
    if (client.refuses_watch) return false;
    client.armed = generation;
    return true;
  }
  // One that is seen to have a request tries at once, or joins the line if there is one.
  Peek peek(SocketId id, bool) override {
    Client& client = at(id, "peek");
    if (client.asks() && !client.returning_ms && first_in_line(client.address)) line_up(client);
    return client.gone() ? Peek::kClosed : client.bytes ? Peek::kBytes : Peek::kNothing;
  }
  SendBack send_back(SocketId id, AddressId to, const Return& back) override {
    Client& client = at(id, "send_back");
    if (!client.asks()) trouble = "sent back without a request";
    if (!client.claimed) trouble = "sent back though the guard may have done so";
    if (to != client.address) trouble = "sent to another httpd";
    if (back.keepalives != client.state.keepalives ||
        back.keepalive_ms != client.state.keepalive_ms || back.tag != client.state.tag ||
        back.parked_ns != (now_ms_ - client.arrived_ms) * kMilli) {
      trouble = "came back as somebody else";
    }
    const std::optional<SocketId> first = first_in_line(to);
    if (first && *first != id) trouble = "overtook one that has waited for longer";
    Line& line = lines[to];
    line.tried_ms = now_ms_;
    switch (ways[to]) {
      case Way::kFree:
        sent_ = id;
        line.taken_ms = now_ms_;
        line.refused_ms = 0;
        return SendBack::kSent;
      case Way::kGone: return SendBack::kGone;
      case Way::kFull: break;
    }
    if (!client.returning_ms) {
      line_up(client);
    } else if (line.refused_ms == now_ms_ && !may_give_up(client)) {
      trouble = "tried again at once where the queue is full";
    }
    line.refused_ms = may_give_up(client) ? 0 : now_ms_;  // given up, it lets the next one try
    return SendBack::kLater;
  }
  void close(SocketId id) override {
    const Client& client = at(id, "close");
    if (!client.home && !client.claimed) trouble = "closed while the guard may be sending it";
    end(id, sent_ == id || client.home ? End::kReturned : End::kClosed);
  }
  void linger(SocketId id, const Handoff& handoff, std::uint64_t) override {
    const Client& client = at(id, "linger");
    if (!client.claimed) trouble = "ended while the guard may be sending it";
    if (handoff.idle_ms != client.idle_ms || handoff.cap_ms != client.cap_ms ||
        handoff.handed_off_ns / kMilli != now_ms_ || handoff.user != client.user) {
      trouble = "lingers by other times than its own";
    }
    end(id, End::kLingers);
  }
  bool claim(SocketId id) override {
    Client& client = at(id, "claim");
    client.claimed = !client.home;
    return client.claimed;
  }
  void give_up(SocketId id) override { at(id, "give_up").claimed = false; }
  void release(AddressId address) override { --users[address]; }

  [[nodiscard]] std::optional<SocketId> first_in_line(AddressId address) const {
    std::optional<SocketId> first;
    for (const auto& [id, client] : open) {
      if (client.address != address || !client.returning_ms) continue;
      if (!first || client.place < open.at(*first).place) first = id;
    }
    return first;
  }
  void line_up(Client& client) {
    client.returning_ms = now_ms_;
    client.place = ++places_;
  }
  [[nodiscard]] bool may_give_up(const Client& client) const {
    return client.returning_ms &&
           now_ms_ - std::max(*client.returning_ms, lines[client.address].taken_ms) >=
               kReturnLimitMs;
  }

  // In another lingerd: it knows since when each waits, and nothing of the lines.
  void start_again() {
    std::vector<std::pair<std::uint64_t, SocketId>> waiting;
    for (auto& [id, client] : open) {
      client.armed = 0;
      if (client.returning_ms) waiting.emplace_back(*client.returning_ms, id);
    }
    std::ranges::sort(waiting);
    for (const auto& [since, id] : waiting) open.at(id).place = ++places_;
    std::ranges::fill(lines, Line{now_ms_, 0, now_ms_});
  }

  std::map<SocketId, Client> open;
  std::map<AddressId, std::int64_t> users;
  Line lines[kListeners];
  Way ways[kListeners] = {};
  struct Ended {
    SocketId id;
    Client client;
    End how;
  };
  std::vector<Ended> ends;  // since the last check
  std::set<std::pair<SocketId, std::uint32_t>> seen;
  std::string trouble;

 private:
  Client& at(SocketId id, const char* operation) {
    const auto it = open.find(id);
    if (it != open.end()) return it->second;
    trouble = std::string(operation) + " on a connection that is over";
    static Client nothing;
    return nothing;
  }
  void end(SocketId id, End how) {
    ends.push_back({id, at(id, "end"), how});
    open.erase(id);
    sent_.reset();
  }
  std::optional<SocketId> sent_;
  std::uint64_t places_ = 0;
  const std::uint64_t& now_ms_;
};

enum class Operation { kArrive, kClient, kEvents, kExpire, kShrink, kAbandon, kRestart, kEndAll };

class Model : private RandomModel {
 public:
  explicit Model(std::uint64_t seed) : RandomModel("PARKED", seed) {
    now_ms_ = 1'000'000 + pick(1'000'000);
    capacity_.emplace(counters_, kNoLimit);
    parked_.emplace(world_, *capacity_, counters_);
  }

  void run(int steps) {
    for (step_ = 0; step_ < steps; ++step_) {
      take_step();
      check();
    }
    operation_ = Operation::kEndAll;
    parked_->end_all(now_ns());
    check();
    for (const auto& [id, client] : world_.open) {
      expect(client.returning_ms.has_value(), "one that waited wasn't ended");
    }
    time_passes(kReturnLimitMs + kLongestRetry);
    expect(world_.open.empty(), "a request waited for longer than its limit");
    expect(!parked_->next_deadline(), "a deadline was left");
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
  void expire();
  void shrink();
  void way_changes();
  void restart();

  void check();
  [[nodiscard]] DaemonCounter reason_for(const World::Ended& ended) const;
  [[nodiscard]] DaemonCounter reason_to_part(const Client& client) const;
  void expect_nearest(const Client& client) const;
  void expect_last(const Client& client) const;
  void expect_holds_most(const Client& client) const;

  World world_{now_ms_};
  DaemonCounters counters_;
  std::optional<Capacity> capacity_;
  std::optional<Parked> parked_;
  DaemonCounters expected_;
  Operation operation_ = Operation::kArrive;
  std::optional<AddressId> abandoned_;
  std::vector<std::pair<SocketId, std::uint32_t>> stale_;
};

void Model::take_step() {
  const std::uint64_t dice = pick(40);
  if (dice < 12) return arrive();
  if (dice < 20) return client_acts();
  if (dice < 27) return events();
  if (dice < 35) return time_passes(pick(pick(4) == 0 ? 8'000 : 100));
  if (dice < 38) return way_changes();
  if (dice == 38) return shrink();
  restart();
}

void Model::arrive() {
  operation_ = Operation::kArrive;
  // The lowest free number, as the kernel gives it: numbers come back at once.
  SocketId id = 3;
  while (world_.open.contains(id)) ++id;
  static constexpr std::uint32_t kTimeouts[] = {1, 60, 700, 5'000, 15'000, 3'600'000};
  Handoff handoff;
  handoff.kind = RecordKind::kIdle;
  handoff.stall_ms = kTimeouts[pick(std::size(kTimeouts))];
  handoff.idle_ms = static_cast<std::uint32_t>(1 + pick(5'000));
  handoff.cap_ms = static_cast<std::uint32_t>(1 + pick(30'000));
  handoff.keepalives = static_cast<std::uint32_t>(pick(200));
  handoff.ticket = random_();
  static constexpr Shares::User kUsers[] = {33, 33, 33, 1'000, 4'711};
  handoff.user = kUsers[pick(std::size(kUsers))];
  // Mostly a moment ago; now and then what a hostile peer makes up.
  handoff.handed_off_ns = pick(20) == 0 ? random_() : now_ns() - pick(20 * kMilli);

  Client client;
  client.bytes = pick(5) == 0;
  client.closed = pick(10) == 0;
  client.reset = pick(20) == 0;
  client.refuses_watch = pick(40) == 0;
  client.address = static_cast<AddressId>(pick(kListeners));
  client.user = handoff.user;
  client.state = {handoff.keepalives, handoff.stall_ms, 0, handoff.ticket};
  client.idle_ms = handoff.idle_ms;
  client.cap_ms = handoff.cap_ms;
  client.arrived_ms = now_ms_;
  const std::uint64_t earliest = now_ms_ - std::min<std::uint64_t>(handoff.stall_ms, now_ms_);
  const std::uint64_t began = std::clamp(handoff.handed_off_ns / kMilli, earliest, now_ms_);
  client.deadline_ms = began + 1 + handoff.stall_ms;
  // Lists are sorted: one that comes early to its own waits for the others of it.
  for (const auto& [other, one] : world_.open) {
    if (one.state.keepalive_ms == handoff.stall_ms && !one.returning_ms &&
        one.user == handoff.user) {
      client.deadline_ms = std::max(client.deadline_ms, one.deadline_ms);
    }
  }
  world_.open.emplace(id, client);
  ++world_.users[client.address];
  ++expected_[kParkedTotal];
  parked_->arrive(id, client.address, handoff, now_ns());
}

void Model::client_acts() {
  operation_ = Operation::kClient;
  if (world_.open.empty()) return;
  const auto which = static_cast<std::ptrdiff_t>(pick(world_.open.size()));
  Client& client = std::next(world_.open.begin(), which)->second;
  const std::uint64_t dice = pick(11);
  if (dice == 10) {
    client.home = client.asks() && !client.claimed;
  } else if (dice < 6) {
    client.bytes = client.bytes || !(client.closed || client.reset);
  } else if (dice < 9) {
    client.closed = true;
  } else {
    client.reset = true;
  }
}

// What epoll reports: once each, some for nothing, and late ones for a number that is another's.
void Model::events() {
  operation_ = Operation::kEvents;
  std::vector<SocketId> reported;
  for (auto& [id, client] : std::map(world_.open)) {
    const bool readable = client.bytes || client.closed || client.reset;
    if (client.armed == 0 || !(readable || pick(10) == 0) || pick(4) == 0) continue;
    world_.open.at(id).armed = 0;
    if (pick(3) == 0) stale_.emplace_back(id, client.armed);
    parked_->ready(id, client.armed, now_ns());
    if (readable) reported.push_back(id);
  }
  for (const SocketId id : reported) {
    const auto it = world_.open.find(id);
    expect(it == world_.open.end() || it->second.returning_ms, "a request was left waiting");
  }
  check();
  const std::size_t before = world_.open.size();
  for (const auto& [id, generation] : stale_) {
    const auto it = world_.open.find(id);
    if (it != world_.open.end() && it->second.armed == generation) continue;
    if (it != world_.open.end() && it->second.armed == 0) continue;  // refused: it may be its own
    parked_->ready(id, generation, now_ns());
  }
  parked_->ready(4'000'000'000U, 1, now_ns());
  expect(world_.open.size() == before, "another's event ended a stay");
  if (stale_.size() > 20) stale_.clear();
}

// As the loop does: wakes at each deadline; or, as after SIGSTOP, at the end only.
void Model::time_passes(std::uint64_t ms) {
  const std::uint64_t until = now_ms_ + ms;
  const bool jumps = pick(8) == 0;
  for (auto next = parked_->next_deadline(); !jumps && next && *next <= until;
       next = parked_->next_deadline()) {
    now_ms_ = std::max(now_ms_, *next);
    expire();
  }
  now_ms_ = until;
  expire();
}

void Model::expire() {
  operation_ = Operation::kExpire;
  const std::size_t budget = 1 + pick(5);
  parked_->expire(now_ns(), budget);
  expect(world_.ends.size() <= budget + kReturnsAtOnce, "more at once than allowed");
  parked_->expire(now_ns(), 1'000'000);
  const auto next = parked_->next_deadline();
  expect(!next || *next > now_ms_, "a deadline has come and nothing was done");
  check();
  for (const auto& [id, client] : world_.open) {
    if (client.returning_ms) {
      const Line& line = world_.lines[client.address];
      expect(line.tried_ms + kLongestRetry >= now_ms_, "a line isn't tried again");
      expect(
          std::max(*client.returning_ms, line.taken_ms) + kReturnLimitMs + kLongestRetry > now_ms_,
          "a request waits for longer than its limit");
    } else {
      expect(client.deadline_ms > now_ms_, "it outstays KeepAliveTimeout");
    }
  }
}

void Model::shrink() {
  operation_ = Operation::kShrink;
  const std::size_t most = pick(world_.open.size() + 2);
  capacity_->set_limit(static_cast<std::uint32_t>(most), now_ns());
  expect(parked_->size() <= most, "over the limit");
  capacity_->set_limit(kNoLimit, now_ns());
}

// A listener's queue fills up or has room again; or its httpd ends, of which lingerd hears, and
// another one begins.
void Model::way_changes() {
  operation_ = Operation::kAbandon;
  const auto which = static_cast<AddressId>(pick(kListeners));
  Way& way = world_.ways[which];
  if (way == Way::kGone) {
    abandoned_ = which;
    parked_->abandon(which, now_ns());
    expect(world_.users[which] == 0, "it goes on waiting for nobody");
    check();
    abandoned_.reset();
    way = Way::kFree;
    return;
  }
  const std::uint64_t dice = pick(6);
  way = dice == 0 ? Way::kGone : dice < 3 ? Way::kFull : Way::kFree;
}

// Everything goes to another lingerd, in the form in which it travels; now and then one gets lost.
void Model::restart() {
  operation_ = Operation::kRestart;
  CarriedState left;
  left.addresses = kListeners;
  (void)parked_->let_go([this](SocketId id) { return world_.open.at(id).home; }, now_ns());
  check();
  left.counters = counters_;
  std::vector<Parked::Carried> carried = parked_->carry_out();
  for (Parked::Carried& each : carried) {
    each.state.address = static_cast<std::uint16_t>(each.address);
    left.parked.push_back(each.state);
  }
  CarriedState state;
  expect(decode(encode(left), now_ms_, state) == CarryResult::kOk, "the state came back wrong");
  expect(state.parked.size() == world_.open.size(), "one was left behind");
  for (std::size_t i = 0; i < carried.size(); ++i) carried[i].state = state.parked[i];
  if (!carried.empty() && pick(4) == 0) {
    const Client& lost = world_.open.at(carried.back().id);
    --world_.users[lost.address];
    ++expected_[kParkExpired];
    world_.open.erase(carried.back().id);
    carried.pop_back();
  }
  stale_.clear();
  world_.seen.clear();
  world_.start_again();
  counters_ = state.counters;
  capacity_.emplace(counters_, kNoLimit);
  parked_.emplace(world_, *capacity_, counters_);
  parked_->carry_in(std::move(carried), now_ns());
}

// ---- What must hold after each step ----

void Model::check() {
  expect(world_.trouble.empty(), world_.trouble);
  for (const World::Ended& ended : world_.ends) {
    ++expected_[reason_for(ended)];
    expected_[kParkMillisFreed] += now_ms_ - ended.client.arrived_ms;
    expected_[kWorkerMillisFreed] += now_ms_ - ended.client.arrived_ms;
  }
  world_.ends.clear();
  expect(operation_ == Operation::kShrink || counters_[kOverShare] == expected_[kOverShare],
         "a share counted where no room was made");
  expected_[kOverShare] = counters_[kOverShare];
  expected_[kParked] = world_.open.size();
  expected_[kQueueLimit] = capacity_->limit();
  expect(parked_->size() == world_.open.size(), "it lost or kept a connection");
  expect(parked_->size() == 0 || parked_->next_deadline(), "one waits without a deadline");
  expect(parks_add_up(counters_), "LingerParkedTotal isn't what is there and every end");
  for (std::size_t i = 0; i < kDaemonCounters; ++i) {
    expect(counters_.array()[i] == expected_.array()[i],
           std::string(kDaemonCounterInfo[i].key) + " is " + std::to_string(counters_.array()[i]) +
               ", should be " + std::to_string(expected_.array()[i]));
  }
  std::map<AddressId, std::int64_t> users;
  for (const auto& [id, client] : world_.open) {
    ++users[client.address];
    expect(!client.claimed, "the guard is kept from one that waits");
  }
  for (const auto& [address, count] : world_.users) {
    expect(count == users[address], "a way back is held by too many or too few");
  }
}

DaemonCounter Model::reason_for(const World::Ended& ended) const {
  const Client& client = ended.client;
  switch (ended.how) {
    case End::kReturned: return kReturned;
    case End::kLingers: return reason_to_part(client);
    case End::kClosed: break;
  }
  // Making room doesn't ask those on their way back.
  if (operation_ == Operation::kShrink && (client.returning_ms || !client.gone())) {
    expect(client.returning_ms || !client.bytes, "room was made with a request that could go back");
    if (!client.returning_ms) expect_nearest(client);
    if (client.returning_ms) expect_last(client);
    expect_holds_most(client);
    return client.returning_ms ? kReturnFailed : kParkExpired;
  }
  if (operation_ == Operation::kShrink) return kParkExpired;
  expect(client.gone(), "closed before its client");
  return kParkClosedByClient;
}

// It is ended by us, with a FIN: why?
DaemonCounter Model::reason_to_part(const Client& client) const {
  if (operation_ == Operation::kAbandon) {
    expect(client.address == abandoned_, "its httpd is still there");
    return kReturnFailed;
  }
  if (client.asks()) {
    expect(world_.may_give_up(client) || world_.ways[client.address] == Way::kGone,
           "a request was given up too early");
    return kReturnFailed;
  }
  expect(!client.gone(), "it lingers though its client has gone");
  if (operation_ == Operation::kEndAll || client.refuses_watch) return kParkExpired;
  expect(operation_ == Operation::kExpire, "ended for no reason");
  expect(now_ms_ >= client.deadline_ms, "ended before KeepAliveTimeout");
  return kParkExpired;
}

void Model::expect_nearest(const Client& client) const {
  for (const auto& [other, one] : world_.open) {
    expect(one.user != client.user || one.returning_ms || client.deadline_ms <= one.deadline_ms,
           "another one was nearer to its end");
  }
}

void Model::expect_last(const Client& client) const {
  for (const auto& [other, one] : world_.open) {
    expect(one.user != client.user || one.address != client.address || !one.returning_ms ||
               one.place < client.place,
           "one that has waited for longer had to go");
  }
}

// When the last one of its user had to go that had as much as any other; now it has one fewer.
void Model::expect_holds_most(const Client& client) const {
  std::map<Shares::User, std::size_t> held;
  for (const auto& [other, one] : world_.open) ++held[one.user];
  for (const auto& [user, count] : held) {
    const auto own = held.find(client.user);
    expect((own == held.end() ? 0 : own->second) + 1 >= count, "another user holds more");
  }
}

}  // namespace

TEST_GROUP(ParkedModel){};

TEST(ParkedModel, keeps_every_promise_in_random_stays) {
  run_model<Model>("PARKED");
}
