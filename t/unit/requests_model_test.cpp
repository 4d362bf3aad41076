// SPDX-License-Identifier: Apache-2.0
// Random requests that come slowly against a reference that knows only what was promised: segments,
// FIN, RST, full buffers, full and vanished listeners, time in small and in large steps, limits of
// memory and of connections, restarts. After each step the books must balance, and whatever went
// back went for a reason. REQUESTS_MODEL_SEED=N runs one alone, REQUESTS_MODEL_RUNS=N as many.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "contract/counters.h"
#include "contract/record.h"
#include "lingerd/core/awaited.h"
#include "lingerd/core/capacity.h"
#include "lingerd/core/carry.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/parked.h"
#include "lingerd/core/return_lines.h"
#include "t/unit/model_runs.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;
using enum DaemonCounter;

namespace {

constexpr std::uint64_t kMilli = 1'000'000;
constexpr AddressId kListeners = 2;
constexpr std::uint32_t kNoLimit = 1'000'000;
constexpr std::uint64_t kRoom = 200'000;  // in a socket

const std::string kHead = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n";

// A client as the kernel has it, and what the reference knows of its request.
struct Client {
  std::string whole;      // what it sends, all in all
  std::size_t there = 0;  // of it
  bool finished = false;  // FIN
  bool reset = false;
  bool refuses_watch = false;
  std::uint32_t armed = 0;
  std::uint64_t at_least = 1;
  bool full = false;     // the kernel takes no more
  bool excused = false;  // there has been a reason to send it back as it is

  AwaitedPart what;
  std::uint32_t timeout_ms = 0;
  std::uint64_t began_ms = 0;
  AddressId address = 0;
  bool came_back = false;  // sent, not closed yet
  Outcome outcome = Outcome::kEarly;

  [[nodiscard]] bool is_there() const { return there == whole.size(); }
  [[nodiscard]] bool readable() const { return there >= at_least || full || finished || reset; }
  [[nodiscard]] std::uint64_t deadline() const {
    const std::uint64_t rate = what.min_rate;
    return began_ms + timeout_ms + (rate > 0 ? there * 1'000 / rate : 0);
  }
};

enum class Way { kFree, kFull, kGone };

class World final : public ParkOps {
 public:
  bool watch(SocketId id, std::uint32_t generation, Watch how) override {
    Client& client = at(id, "watch");
    if (client.armed != 0 && how == Watch::kFirst) trouble = "watched twice";
    if (client.refuses_watch) return false;
    client.armed = generation;
    return true;
  }
  Peek peek(SocketId id, bool) override {
    const Client& client = at(id, "peek");
    if (client.reset || (client.finished && client.there == 0)) return Peek::kClosed;
    return client.there > 0 ? Peek::kBytes : Peek::kNothing;
  }
  Arrived look(SocketId id, std::size_t front) override {
    const Client& client = at(id, "look");
    Arrived arrived;
    if (client.reset) arrived.state = Arrived::State::kClosed;
    if (client.finished && !client.reset) arrived.state = Arrived::State::kFinished;
    arrived.readable = client.readable();
    arrived.bytes = client.there;
    seen_ = client.whole.substr(0, std::min(client.there, front));
    arrived.front = seen_;
    return arrived;
  }
  void await(SocketId id, std::uint64_t bytes) override { at(id, "await").at_least = bytes; }
  SendBack send_back(SocketId id, AddressId to, const Return& back) override {
    Client& client = at(id, "send_back");
    if (to != client.address) trouble = "sent to another httpd";
    const bool is_head = client.what.part == RequestPart::kHead;
    if (back.waited_for != (is_head ? WaitedFor::kHead : WaitedFor::kBody)) trouble = "as another";
    if (ways[to] == Way::kGone) return SendBack::kGone;
    if (ways[to] == Way::kFull) return SendBack::kLater;
    client.came_back = true;
    client.outcome = back.outcome;
    return SendBack::kSent;
  }
  void close(SocketId id) override { end(id, false); }
  void linger(SocketId id, const Handoff&, std::uint64_t) override { end(id, true); }
  void release(AddressId address) override { --users[address]; }

  std::map<SocketId, Client> open;
  std::map<AddressId, int> users;
  Way ways[kListeners] = {};
  struct Ended {
    Client client;
    bool lingers = false;
  };
  std::vector<Ended> ends;
  std::string trouble;

 private:
  Client& at(SocketId id, const char* operation) {
    const auto it = open.find(id);
    if (it != open.end()) return it->second;
    trouble = std::string(operation) + " on a connection that is over";
    static Client nothing;
    return nothing;
  }
  void end(SocketId id, bool lingers) {
    if (at(id, "end").at_least != 1) trouble = "the kernel still waits for more";
    ends.push_back({at(id, "end"), lingers});
    open.erase(id);
  }
  std::string seen_;
};

class Model {
 public:
  explicit Model(std::uint64_t seed) : seed_(seed), random_(seed) {
    now_ms_ = 1'000'000 + pick(1'000'000);
    begin();
  }

  void run(int steps) {
    for (step_ = 0; step_ < steps; ++step_) {
      take_step();
      check();
    }
    may_be_early_ = true;
    parked_->end_all(now_ns());
    check();
    time_passes(kReturnLimitMs + ReturnLines::kLongestRetryMs);
    check();
    expect(world_.open.empty(), "a request was left");
    expect(!parked_->next_deadline(), "a deadline was left");
    expect(counters_[kGatherMemory] == 0, "memory was left");
  }

 private:
  std::uint64_t pick(std::uint64_t below) { return random_() % below; }
  [[nodiscard]] std::uint64_t now_ns() const { return now_ms_ * kMilli + 999'999; }
  void expect(bool holds, const std::string& what) const {
    if (holds) return;
    FAIL((what + ": REQUESTS_MODEL_SEED=" + std::to_string(seed_) + ", step " +
          std::to_string(step_))
             .c_str());
  }
  void begin() {
    capacity_.emplace(counters_, kNoLimit);
    parked_.emplace(world_, *capacity_, counters_);
    parked_->set_request_memory(memory_);
  }

  void take_step() {
    may_be_early_ = false;
    switch (pick(16)) {
      case 0:
      case 1:
      case 2:
      case 3: return arrive();
      case 4:
      case 5:
      case 6:
      case 7: return client_acts();
      case 8:
      case 9:
      case 10: return events();
      case 11:
      case 12: return time_passes(pick(pick(3) == 0 ? 40'000 : 300));
      case 13: return way_changes();
      case 14: return limits_change();
      default: return restart();
    }
  }

  void arrive() {
    SocketId id = 3;
    while (world_.open.contains(id)) ++id;
    Client client;
    client.what.part = static_cast<RequestPart>(1 + pick(3));
    client.whole = kHead;
    if (client.what.part != RequestPart::kHead) {
      client.what.body_at = static_cast<std::uint32_t>(kHead.size());
      client.what.min_rate = static_cast<std::uint32_t>(1 + pick(2'000));
      const std::string data(1 + pick(pick(4) == 0 ? 300'000 : 2'000), 'd');
      char size[32];
      std::snprintf(size, sizeof size, "%zx\r\n", data.size());
      const bool chunks = client.what.part == RequestPart::kChunks;
      client.whole += chunks ? size + data + "\r\n0\r\n\r\n" : data;
    }
    client.what.most = client.what.part == RequestPart::kHead    ? 8'000
                       : client.what.part == RequestPart::kBytes ? client.whole.size()
                                                                 : kHead.size() + 400'000;
    client.there = pick(client.whole.size() + 1);
    if (client.there > kRoom) client.there = kRoom;
    client.finished = pick(20) == 0;
    client.reset = pick(30) == 0;
    client.refuses_watch = pick(40) == 0;
    client.address = static_cast<AddressId>(pick(kListeners));
    static constexpr std::uint32_t kTimeouts[] = {1, 60, 700, 5'000, 20'000};
    client.timeout_ms = kTimeouts[pick(std::size(kTimeouts))];
    client.began_ms = now_ms_ - std::min<std::uint64_t>(pick(10), client.timeout_ms);
    Handoff handoff;
    handoff.kind = RecordKind::kRequest;
    handoff.idle_ms = handoff.cap_ms = 1'000;
    handoff.stall_ms = client.timeout_ms;
    handoff.awaited = client.what;
    handoff.handed_off_ns = client.began_ms * kMilli;
    may_be_early_ = client.refuses_watch;
    world_.open.emplace(id, client);
    ++world_.users[client.address];
    ++expected_[kGatherTotal];
    parked_->arrive(id, client.address, handoff, now_ns());
  }

  Client* anybody() {
    if (world_.open.empty()) return nullptr;
    auto it = world_.open.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(pick(world_.open.size())));
    return &it->second;
  }

  void client_acts() {
    Client* client = anybody();
    if (client == nullptr || client->reset) return;
    const std::uint64_t dice = pick(12);
    if (dice == 0) client->reset = true;
    if (dice == 1) client->finished = true;
    if (dice > 1 && !client->finished) {
      const std::size_t left = client->whole.size() - client->there;
      client->there += std::min<std::size_t>(left, 1 + pick(pick(2) == 0 ? 30 : 100'000));
      client->full = client->there > kRoom && client->there < client->at_least;
      if (client->full) client->there = kRoom;
      client->excused = client->excused || client->full || client->finished;
    }
  }

  void events() {
    for (const auto& [id, client] : std::map(world_.open)) {
      if (client.armed == 0 || !client.readable() || pick(4) == 0) continue;
      world_.open.at(id).armed = 0;
      parked_->ready(id, client.armed, now_ns());
      parked_->ready(id, client.armed + 1, now_ns());  // another's
    }
  }

  void time_passes(std::uint64_t ms) {
    const std::uint64_t until = now_ms_ + ms;
    for (auto next = parked_->next_deadline(); next && *next <= until;
         next = parked_->next_deadline()) {
      now_ms_ = std::max(now_ms_, *next);
      parked_->expire(now_ns(), 1'000);
      check();
    }
    now_ms_ = until;
    parked_->expire(now_ns(), 1'000'000);
    for (const auto& [id, client] : world_.open) {
      const std::uint64_t freed_ms = freed_ms_[client.address];
      expect(world_.ways[client.address] != Way::kFree || now_ms_ < freed_ms + 1'000 ||
                 client.deadline() + kRateLookMs + kLongLookMs > now_ms_,
             "it outstays its time");
    }
  }

  void way_changes() {
    const auto which = static_cast<AddressId>(pick(kListeners));
    if (world_.ways[which] == Way::kGone) {
      parked_->abandon(which, now_ns());
      expect(world_.users[which] == 0, "it goes on waiting for nobody");
    }
    world_.ways[which] = static_cast<Way>(pick(3));
    freed_ms_[which] = now_ms_;
  }

  void limits_change() {
    may_be_early_ = true;
    memory_ = pick(3) == 0 ? pick(500'000) : 1'000'000'000;
    parked_->set_request_memory(memory_);
    for (auto& [id, client] : world_.open) client.excused = true;
    making_room_ = true;
    capacity_->set_limit(static_cast<std::uint32_t>(pick(world_.open.size() + 2)), now_ns());
    capacity_->set_limit(kNoLimit, now_ns());
    check();
    making_room_ = false;
  }

  void restart() {
    CarriedState left;
    left.addresses = kListeners;
    left.counters = counters_;
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
      --world_.users[carried.back().address];
      ++expected_[kGatherReturnFailed];
      world_.open.erase(carried.back().id);
      carried.pop_back();
    }
    for (auto& [id, client] : world_.open) client.armed = 0;
    counters_ = state.counters;
    begin();
    parked_->carry_in(std::move(carried), now_ns());
  }

  void check() {
    expect(world_.trouble.empty(), world_.trouble);
    for (const auto& [client, lingers] : std::exchange(world_.ends, {})) {
      ++expected_[reason_for(client, lingers)];
    }
    for (const DaemonCounter counter : {kGatherTotal, kGathered, kGatherEarly, kGatherTimedOut,
                                        kGatherClosedByClient, kGatherReturnFailed}) {
      const auto index = static_cast<std::size_t>(counter);
      expect(counters_[counter] == expected_[counter],
             std::string(kDaemonCounterInfo[index].key) + " is " +
                 std::to_string(counters_[counter]) + ", should be " +
                 std::to_string(expected_[counter]));
    }
    expect(counters_[kGathering] == world_.open.size(), "LingerGathering is wrong");
    expect(gathers_add_up(counters_), "LingerGatherTotal isn't what is there and every end");
    expect(counters_[kParked] == 0 && counters_[kParkedTotal] == 0, "counted as idle");
    std::uint64_t most = 0;
    std::map<AddressId, int> users;
    for (const auto& [id, client] : world_.open) {
      ++users[client.address];
      most += client.there;
    }
    expect(counters_[kGatherMemory] <= most, "more memory than there is");
    for (const auto& [address, count] : world_.users) {
      expect(count == users[address], "a way back is held by too many or too few");
    }
  }

  [[nodiscard]] DaemonCounter reason_for(const Client& client, bool lingers) const {
    if (lingers) return kGatherReturnFailed;
    if (!client.came_back) {
      if (making_room_) return kGatherReturnFailed;  // it couldn't go back
      expect(client.reset || (client.finished && client.there == 0), "closed before its client");
      return kGatherClosedByClient;
    }
    switch (client.outcome) {
      case Outcome::kCame: expect(client.is_there(), "it hasn't come"); return kGathered;
      case Outcome::kTimedOut:
        // One that has waited in line since may have sent more meanwhile.
        expect(now_ms_ > client.began_ms + client.timeout_ms, "it had time left");
        return kGatherTimedOut;
      case Outcome::kEarly: break;
    }
    const bool is_over = memory_ < 1'000'000'000;
    expect(may_be_early_ || is_over || client.finished || client.full || client.is_there() ||
               client.refuses_watch || client.there >= client.what.most || client.excused ||
               client.there == kRoom,
           "it went back for no reason");
    return kGatherEarly;
  }

  std::uint64_t seed_;
  std::mt19937_64 random_;
  std::uint64_t now_ms_ = 0;
  std::uint64_t memory_ = 1'000'000'000;
  World world_;
  DaemonCounters counters_;
  DaemonCounters expected_;
  std::optional<Capacity> capacity_;
  std::optional<Parked> parked_;
  std::uint64_t freed_ms_[kListeners] = {};
  bool may_be_early_ = false;
  bool making_room_ = false;
  int step_ = 0;
};

}  // namespace

TEST_GROUP(RequestsModel){};

TEST(RequestsModel, keeps_every_promise_to_slow_clients) {
  run_model<Model>("REQUESTS");
}
