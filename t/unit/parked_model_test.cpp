// SPDX-License-Identifier: Apache-2.0
// Random stays of idle connections against a reference that knows only what was promised: arrivals,
// requests, FIN, RST, full and vanished listeners, time in small and in large steps, capacity,
// restarts. After each step the books must balance. A failure prints its seed:
// PARKED_MODEL_SEED=N runs that one alone, PARKED_MODEL_RUNS=N as many of them.
#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "lingerd/carry.h"
#include "lingerd/parked.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;
using enum DaemonCounter;

namespace {

constexpr std::uint64_t kMilli = 1'000'000;
constexpr std::uint64_t kLongestRetry = 64;
constexpr AddressId kListeners = 4;

// A connection as the kernel and the client have it, and what the reference knows of its stay.
struct Client {
  bool bytes = false;
  bool closed = false;  // FIN
  bool reset = false;
  bool refuses_watch = false;
  std::uint32_t armed = 0;  // generation; 0: epoll says nothing

  AddressId address = 0;
  Return state;
  std::uint32_t idle_ms = 0;
  std::uint32_t cap_ms = 0;
  std::uint64_t arrived_ms = 0;
  std::uint64_t deadline_ms = 0;
  std::optional<std::uint64_t> returning_ms;  // since
  std::uint64_t tried_ms = 0;

  [[nodiscard]] bool asks() const { return bytes && !reset; }
  [[nodiscard]] bool gone() const { return reset || (closed && !bytes); }
};

enum class Way { kFree, kFull, kGone };
enum class End { kReturned, kClosed, kLingers };

class World final : public ParkOps {
 public:
  explicit World(const std::uint64_t& now_ms) : now_ms_(now_ms) {}

  bool watch(SocketId id, std::uint32_t generation, bool again) override {
    Client& client = at(id, "watch");
    if (client.armed != 0) trouble = "watched twice";
    if (!again && !seen.insert({id, generation}).second) trouble = "a generation came again";
    if (client.refuses_watch) return false;
    client.armed = generation;
    return true;
  }
  Peek peek(SocketId id) override {
    const Client& client = at(id, "peek");
    return client.gone() ? Peek::kClosed : client.bytes ? Peek::kBytes : Peek::kNothing;
  }
  SendBack send_back(SocketId id, AddressId to, const Return& back) override {
    Client& client = at(id, "send_back");
    if (!client.asks()) trouble = "sent back without a request";
    if (to != client.address) trouble = "sent to another httpd";
    if (back.keepalives != client.state.keepalives ||
        back.keepalive_ms != client.state.keepalive_ms ||
        back.parked_ns != (now_ms_ - client.arrived_ms) * kMilli) {
      trouble = "came back as somebody else";
    }
    client.tried_ms = now_ms_;
    switch (ways[to]) {
      case Way::kFree: sent_ = id; return SendBack::kSent;
      case Way::kGone: return SendBack::kGone;
      case Way::kFull: break;
    }
    if (!client.returning_ms) client.returning_ms = now_ms_;
    return SendBack::kLater;
  }
  void close(SocketId id) override { end(id, sent_ == id ? End::kReturned : End::kClosed); }
  void linger(SocketId id, const Handoff& handoff, std::uint64_t) override {
    const Client& client = at(id, "linger");
    if (handoff.idle_ms != client.idle_ms || handoff.cap_ms != client.cap_ms ||
        handoff.handed_off_ns / kMilli != now_ms_) {
      trouble = "lingers by other times than its own";
    }
    end(id, End::kLingers);
  }
  void release(AddressId address) override { --users[address]; }

  std::map<SocketId, Client> open;
  std::map<AddressId, std::int64_t> users;
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
  const std::uint64_t& now_ms_;
};

enum class Operation { kArrive, kClient, kEvents, kExpire, kShrink, kAbandon, kRestart, kEndAll };

class Model {
 public:
  explicit Model(std::uint64_t seed) : seed_(seed), random_(seed) {
    now_ms_ = 1'000'000 + pick(1'000'000);
    parked_.emplace(world_, counters_);
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
  std::uint64_t pick(std::uint64_t below) { return random_() % below; }
  [[nodiscard]] std::uint64_t now_ns() const { return now_ms_ * kMilli + 999'999; }
  void expect(bool holds, const std::string& what) const;

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

  std::uint64_t seed_;
  std::mt19937_64 random_;
  std::uint64_t now_ms_ = 0;
  World world_{now_ms_};
  DaemonCounters counters_;
  std::optional<Parked> parked_;
  DaemonCounters expected_;
  Operation operation_ = Operation::kArrive;
  std::optional<AddressId> abandoned_;
  std::vector<std::pair<SocketId, std::uint32_t>> stale_;
  int step_ = 0;
};

void Model::expect(bool holds, const std::string& what) const {
  if (holds) return;
  const std::string text = what + ": PARKED_MODEL_SEED=" + std::to_string(seed_) + ", step " +
                           std::to_string(step_) + ", operation " +
                           std::to_string(static_cast<int>(operation_));
  FAIL(text.c_str());
}

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
  // Mostly a moment ago; now and then what a hostile peer makes up.
  handoff.handed_off_ns = pick(20) == 0 ? random_() : now_ns() - pick(20 * kMilli);

  Client client;
  client.bytes = pick(5) == 0;
  client.closed = pick(10) == 0;
  client.reset = pick(20) == 0;
  client.refuses_watch = pick(40) == 0;
  client.address = static_cast<AddressId>(pick(kListeners));
  client.state = {handoff.keepalives, handoff.stall_ms, 0};
  client.idle_ms = handoff.idle_ms;
  client.cap_ms = handoff.cap_ms;
  client.arrived_ms = now_ms_;
  const std::uint64_t began =
      std::clamp(handoff.handed_off_ns / kMilli, now_ms_ - handoff.stall_ms, now_ms_);
  client.deadline_ms = began + 1 + handoff.stall_ms;
  // Lists are sorted: who comes early to his own waits for the others of it.
  for (const auto& [other, one] : world_.open) {
    if (one.state.keepalive_ms == handoff.stall_ms && !one.returning_ms) {
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
  const std::uint64_t dice = pick(10);
  if (dice < 6) {
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
  expect(world_.ends.size() <= budget, "more deadlines at once than allowed");
  parked_->expire(now_ns(), 1'000'000);
  const auto next = parked_->next_deadline();
  expect(!next || *next > now_ms_, "a deadline has come and nothing was done");
  check();
  for (const auto& [id, client] : world_.open) {
    if (client.returning_ms) {
      expect(client.tried_ms + kLongestRetry >= now_ms_, "a request isn't tried again");
      expect(*client.returning_ms + kReturnLimitMs + kLongestRetry > now_ms_,
             "a request waits for longer than its limit");
    } else {
      expect(client.deadline_ms > now_ms_, "it outstays KeepAliveTimeout");
    }
  }
}

void Model::shrink() {
  operation_ = Operation::kShrink;
  const std::size_t most = pick(world_.open.size() + 2);
  parked_->shrink_to(most, now_ns());
  expect(parked_->size() <= most, "over the limit");
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
  left.counters = counters_;
  left.addresses = kListeners;
  std::vector<Parked::Carried> carried = parked_->carry_out();
  for (Parked::Carried& each : carried) {
    each.state.address = each.address;
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
  for (auto& [id, client] : world_.open) {
    client.armed = 0;
    client.tried_ms = now_ms_;
  }
  counters_ = state.counters;
  parked_.emplace(world_, counters_);
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
  expected_[kParked] = world_.open.size();
  expect(parked_->size() == world_.open.size(), "it lost or kept a connection");
  expect(parked_->size() == 0 || parked_->next_deadline(), "one waits without a deadline");
  expect(parks_add_up(counters_), "LingerParkedTotal isn't what is there and every end");
  for (std::size_t i = 0; i < kDaemonCounters; ++i) {
    expect(counters_.array()[i] == expected_.array()[i],
           std::string(kDaemonCounterInfo[i].key) + " is " + std::to_string(counters_.array()[i]) +
               ", should be " + std::to_string(expected_.array()[i]));
  }
  std::map<AddressId, std::int64_t> users;
  for (const auto& [id, client] : world_.open) ++users[client.address];
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
    const bool limit = client.returning_ms && now_ms_ - *client.returning_ms >= kReturnLimitMs;
    expect(limit || world_.ways[client.address] == Way::kGone, "a request was given up too early");
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
    expect(one.returning_ms || client.deadline_ms <= one.deadline_ms,
           "another one was nearer to its end");
  }
}

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

constexpr int kSteps = 1'000;

}  // namespace

TEST_GROUP(ParkedModel){};

TEST(ParkedModel, keeps_every_promise_in_random_stays) {
  if (std::getenv("PARKED_MODEL_SEED") != nullptr) {
    Model(number_from("PARKED_MODEL_SEED", 0)).run(kSteps);
    return;
  }
  const std::uint64_t runs = number_from("PARKED_MODEL_RUNS", 300);
  for (std::uint64_t seed = 1; seed <= runs; ++seed) Model(seed).run(kSteps);
}
