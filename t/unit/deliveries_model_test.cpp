// SPDX-License-Identifier: Apache-2.0
// Random lives of deliveries, beside lingers: offers begun and dropped, clients that take, stall,
// send meanwhile and reset, files cut short, time, limits, restarts. A reference that knows only
// what was promised: each byte once and in order, FIN behind the last one and nowhere else, no more
// memory than the limit, and books that balance after each step. A failure prints its seed:
// DELIVERIES_MODEL_SEED=N runs that one alone, DELIVERIES_MODEL_RUNS=N as many of them.
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
#include "lingerd/core/delivery.h"
#include "lingerd/core/drain.h"
#include "lingerd/core/lingerer.h"
#include "t/unit/model_runs.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;
using enum DaemonCounter;

namespace {

constexpr std::uint64_t kMostAtOnce = 700;
constexpr std::uint32_t kMaxTimeMs = 60'000;
constexpr std::uint64_t kMemoryLimit = 40'000;

struct Socket {
  // Of a delivery: none of a plain linger.
  std::optional<SocketId> content;
  std::uint64_t first = 0;  // where in the content the rest begins
  std::uint64_t length = 0;
  std::uint64_t memory = 0;
  std::uint64_t content_ends = 0;  // below first + length once it has been cut short
  std::uint32_t stall_ms = 0;

  std::uint64_t room = 0;  // what the kernel takes now
  std::uint64_t taken = 0;
  std::uint64_t unsent = 0;
  bool reset = false;
  bool fin = false;
  bool client_closed = false;
  bool watched = false;
  bool writable = false;
  bool paused = false;  // of that
  std::uint32_t generation = 0;
  std::uint64_t moved_ms = 0;  // lingerd last saw progress

  [[nodiscard]] bool delivers() const { return content.has_value(); }
};

class Kernel final : public SocketOps, public DeliveryOps {
 public:
  explicit Kernel(const std::uint64_t& now_ms) : now_ms_(now_ms) {}

  DrainResult drain(SocketId id) override {
    const Socket& socket = at(id);
    if (socket.delivers()) trouble = "drained before its response was out";
    using State = DrainResult::State;
    if (socket.reset) return {State::kReset, 0};
    return {socket.client_closed ? State::kEof : State::kOpen, 0};
  }
  std::uint64_t unsent(SocketId id) override {
    Socket& socket = at(id);
    if (socket.unsent < seen_[id]) socket.moved_ms = now_ms_;
    return seen_[id] = socket.unsent;
  }
  bool watch(SocketId id, std::uint32_t generation) override {
    Socket& socket = at(id);
    if (socket.watched) trouble = "watched twice";
    socket.watched = true;
    socket.generation = generation;
    return true;
  }
  bool watch_writable(SocketId id, std::uint32_t generation) override {
    at(id).writable = true;
    return watch(id, generation);
  }
  void watch_readable_again(SocketId id, std::uint32_t generation) override {
    Socket& socket = at(id);
    if (!socket.writable || socket.generation != generation) trouble = "it wasn't watched so";
    socket.writable = socket.paused = false;
  }
  void stop_watching(SocketId id, std::uint32_t generation) override {
    Socket& socket = at(id);
    if (!socket.writable || socket.generation != generation) trouble = "it wasn't watched so";
    socket.paused = true;
  }
  void watch_writable_again(SocketId id, std::uint32_t generation) override {
    Socket& socket = at(id);
    if (!socket.paused || socket.generation != generation) trouble = "it was watched all the time";
    socket.paused = false;
  }
  PushResult push(SocketId id, const Content& content) override {
    using enum PushResult::State;
    Socket& socket = at(id);
    if (!socket.delivers() || *socket.content != content.id) trouble = "another's content";
    if (socket.fin) trouble = "bytes behind the FIN";
    if (content.offset != socket.first + socket.taken) trouble = "a byte lost, or sent twice";
    if (content.left != socket.length - socket.taken) trouble = "a wrong idea of what is left";
    if (content.offset >= socket.content_ends) return {kCutShort, 0};
    if (socket.reset) return {kReset, 0};
    const std::uint64_t bytes =
        std::min({socket.room, content.left, kMostAtOnce, socket.content_ends - content.offset});
    if (bytes == 0) return {kFull, 0};
    socket.room -= bytes;
    socket.taken += bytes;
    socket.unsent += bytes;
    socket.moved_ms = now_ms_;
    return {kMoved, bytes};
  }
  void send_fin(SocketId id) override {
    Socket& socket = at(id);
    if (socket.fin) trouble = "a second FIN";
    if (socket.taken != socket.length) trouble = "FIN before the last byte";
    socket.fin = true;
    ++delivered;
    socket.content.reset();
  }
  void close_content(SocketId content) override {
    if (std::erase(contents, content) != 1) trouble = "no such content";
  }
  void close(SocketId id, bool was_watched) override {
    if (at(id).watched != was_watched) trouble = "closed with a wrong idea of its registration";
    ended.emplace_back(id, at(id));
    open.erase(id);
    seen_.erase(id);
  }

  std::map<SocketId, Socket> open;
  std::vector<SocketId> contents;
  std::vector<std::pair<SocketId, Socket>> ended;  // since the last check
  std::uint64_t delivered = 0;
  std::string trouble;

 private:
  Socket& at(SocketId id) {
    const auto it = open.find(id);
    if (it != open.end()) return it->second;
    trouble = "it touched a socket that is closed";
    static Socket nothing;
    return nothing;
  }
  const std::uint64_t& now_ms_;
  std::map<SocketId, std::uint64_t> seen_;
};

class Model : private RandomModel {
 public:
  explicit Model(std::uint64_t seed) : RandomModel("DELIVERIES", seed) {
    max_connections_ = 2 + static_cast<std::uint32_t>(pick(40));
    now_ms_ = 1'000'000 + pick(1'000'000);
    begin_lingerd();
  }

  void run(int steps) {
    for (step_ = 0; step_ < steps; ++step_) {
      what_ = "";
      take_step();
      check();
    }
    while (!offers_.empty()) drop_offer();
    what_ = "the end";
    may_lose_ = true;
    expiring_ = false;
    lingerer_->end_all(now_ns());
    check();
    expect(kernel_.open.empty() && kernel_.contents.empty(), "a descriptor was left open");
    expect(!lingerer_->next_deadline(), "a deadline was left");
  }

 private:
  struct Offer {
    std::uint64_t memory;
  };

  void expect(bool holds, const std::string& what) const {
    if (!holds) FAIL(failed(what, what_).c_str());
  }
  [[nodiscard]] std::uint64_t count(DaemonCounter c) const { return counters_[c]; }
  [[nodiscard]] std::uint64_t delivering() const {
    return static_cast<std::uint64_t>(
        std::ranges::count_if(kernel_.open, [](const auto& one) { return one.second.delivers(); }));
  }
  // More deliveries than would be accepted now: the limit has come down.
  [[nodiscard]] bool over_the_share() const {
    const std::uint64_t all = delivering() + offers_.size();
    return all > 0 && !has_room_for_delivery(all - 1, max_connections_);
  }
  SocketId free_number() {
    SocketId id = 3;
    while (kernel_.open.contains(id) ||
           std::ranges::find(kernel_.contents, id) != kernel_.contents.end()) {
      ++id;
    }
    return id;
  }

  void begin_lingerd() {
    capacity_.emplace(counters_, max_connections_);
    deliveries_.emplace(kernel_, *capacity_, counters_);
    lingerer_.emplace(kernel_, *deliveries_, *capacity_, counters_, kMaxTimeMs);
    deliveries_->set_limits(kMemoryLimit, 0);
  }
  void take_step();
  void offer();
  void begin();
  void drop_offer();
  void linger();
  void client_acts();
  void events();
  void time_passes(std::uint64_t ms);
  void restart();
  void check();
  void check_ended(const Socket& socket);

  std::uint32_t max_connections_ = 0;
  Kernel kernel_{now_ms_};
  DaemonCounters counters_;
  std::optional<Capacity> capacity_;
  std::optional<Deliveries> deliveries_;
  std::optional<Lingerer> lingerer_;
  std::vector<Offer> offers_;
  std::uint64_t begun_ = 0;
  std::uint64_t refused_ = 0;
  std::uint64_t timed_out_ = 0;
  std::uint64_t aborted_ = 0;
  bool may_lose_ = false;  // this step may end deliveries that did nothing wrong
  bool expiring_ = false;
  const char* what_ = "";
};

void Model::take_step() {
  may_lose_ = expiring_ = false;
  const std::uint64_t dice = pick(40);
  if (dice < 5) return offer();
  if (dice < 9) return begin();
  if (dice < 10) return drop_offer();
  if (dice < 14) return linger();
  if (dice < 24) return client_acts();
  if (dice < 32) return events();
  if (dice < 38) return time_passes(pick(pick(4) == 0 ? 20'000 : 500));
  if (dice == 38) return restart();
  what_ = "limits";
  may_lose_ = true;
  max_connections_ = 2 + static_cast<std::uint32_t>(pick(40));
  capacity_->set_limit(max_connections_, now_ns());
}

void Model::offer() {
  what_ = "offer";
  const std::uint64_t memory = pick(4) == 0 ? 0 : pick(15'000);
  const std::uint64_t taken = count(kOffloadMemory);
  const std::uint64_t others = delivering() + offers_.size();
  const bool fits = (memory == 0 || taken + memory <= kMemoryLimit) &&
                    has_room_for_delivery(others, max_connections_) &&
                    has_share_for_offer(offers_.size(), max_connections_);
  const bool accepted = deliveries_->set_aside(memory, 1, now_ns());
  expect(accepted == fits, "it accepts what fits, and nothing else");
  if (accepted) {
    offers_.push_back({memory});
  } else {
    ++refused_;
  }
}

void Model::begin() {
  what_ = "begin";
  if (offers_.empty()) return;
  const auto chosen = offers_.begin() + static_cast<std::ptrdiff_t>(pick(offers_.size()));
  const Offer offer = *chosen;
  offers_.erase(chosen);
  const SocketId id = free_number();
  Socket& socket = kernel_.open[id];
  const SocketId content = free_number();
  kernel_.contents.push_back(content);
  socket.content = content;
  socket.first = pick(1'000);
  socket.length = 1 + pick(20'000);
  socket.memory = offer.memory;
  socket.content_ends = socket.first + socket.length;
  socket.stall_ms = static_cast<std::uint32_t>(pick(2) == 0 ? 1 + pick(3) : 1 + pick(10'000));
  socket.room = pick(3) == 0 ? pick(30'000) : 0;
  socket.moved_ms = now_ms_;
  ++begun_;
  may_lose_ = over_the_share();  // it counts already
  const Handoff handoff{RecordKind::kDeliver, 5'000,         30'000,         now_ns(),
                        socket.first,         socket.length, socket.stall_ms};
  deliveries_->give_back(offer.memory, 1);
  lingerer_->arrive_with(id, {content, socket.first, socket.length, offer.memory}, handoff,
                         now_ns());
}

void Model::drop_offer() {
  what_ = "drop an offer";
  if (offers_.empty()) return;
  deliveries_->give_back(offers_.back().memory, 1);
  offers_.pop_back();
}

void Model::linger() {
  what_ = "linger";
  const SocketId id = free_number();
  kernel_.open[id];
  // Only where limits or a restart have left more deliveries than would be accepted.
  may_lose_ = over_the_share();
  lingerer_->arrive(id, {RecordKind::kLinger, 5'000, 30'000, now_ns()}, now_ns(), true);
}

void Model::client_acts() {
  what_ = "client";
  if (kernel_.open.empty()) return;
  const auto which = static_cast<std::ptrdiff_t>(pick(kernel_.open.size()));
  Socket& socket = std::next(kernel_.open.begin(), which)->second;
  const std::uint64_t dice = pick(20);
  if (dice < 14) {
    const std::uint64_t taken = pick(socket.unsent + 1);
    socket.unsent -= taken;
    socket.room += pick(3'000);
  } else if (dice < 17) {
    socket.client_closed = true;
  } else if (dice < 18) {
    socket.reset = true;
  } else if (dice < 19) {
    socket.content_ends = std::min(socket.content_ends, socket.first + pick(socket.length + 1));
  }
}

void Model::events() {
  what_ = "events";
  for (const auto& [id, socket] : std::map(kernel_.open)) {
    if (socket.watched && pick(3) != 0) lingerer_->ready(id, socket.generation, now_ns());
    if (pick(10) == 0) lingerer_->ready(id, socket.generation + 1, now_ns());
  }
}

void Model::time_passes(std::uint64_t ms) {
  what_ = "time";
  expiring_ = true;
  const std::uint64_t until = now_ms_ + ms;
  for (auto next = lingerer_->next_deadline(); next && *next <= until;
       next = lingerer_->next_deadline()) {
    now_ms_ = std::max(now_ms_, *next);
    lingerer_->expire(now_ns(), 1'000);
    check();
  }
  now_ms_ = until;
  lingerer_->expire(now_ns(), 1'000);
  for (const auto& [id, socket] : kernel_.open) {
    // Looked at in quarters of that time, of a millisecond at least.
    const std::uint64_t quarters = 4 * std::max<std::uint64_t>(socket.stall_ms / 4, 1);
    expect(!socket.delivers() || now_ms_ <= socket.moved_ms + quarters + socket.stall_ms + 4,
           "it has stood still for too long");
  }
}

// Everything goes to another lingerd, in the form in which it travels. Offers don't.
void Model::restart() {
  while (!offers_.empty()) drop_offer();
  what_ = "restart";
  may_lose_ = false;
  CarriedState left;
  left.counters = counters_;
  std::vector<Lingerer::Carried> sockets = lingerer_->carry_out();
  for (const Lingerer::Carried& one : sockets) left.sockets.push_back(one.state);
  CarriedState state;
  expect(decode(encode(left), now_ms_, state) == CarryResult::kOk, "the state came back wrong");
  for (std::size_t i = 0; i < sockets.size(); ++i) sockets[i].state = state.sockets[i];
  for (auto& [id, socket] : kernel_.open) socket.watched = socket.writable = socket.paused = false;
  begin_lingerd();
  go_on_from(state.counters, counters_);
  lingerer_->carry_in(std::move(sockets), now_ns());
  capacity_->make_room(0, now_ns());
}

void Model::check_ended(const Socket& socket) {
  if (!socket.delivers()) {
    expect(socket.taken == socket.length, "a linger whose response was not out");
    return;
  }
  expect(!socket.fin, "FIN although not all of it was out");
  const bool broken = socket.reset || socket.content_ends < socket.first + socket.length;
  if (expiring_) {
    expect(now_ms_ >= socket.moved_ms + socket.stall_ms / 4 * 4, "it had time left");
    ++timed_out_;
  } else if (broken) {
    ++aborted_;
  } else {
    expect(may_lose_, "a response was lost for no reason");
    ++aborted_;
  }
}

void Model::check() {
  expect(kernel_.trouble.empty(), kernel_.trouble);
  for (const auto& [id, socket] : kernel_.ended) check_ended(socket);
  kernel_.ended.clear();
  std::uint64_t pending = 0, memory = 0;
  for (const auto& [id, socket] : kernel_.open) {
    if (!socket.delivers()) continue;
    pending += socket.length - socket.taken;
    memory += socket.memory;
    expect(socket.watched && socket.writable, "it waits for what never comes");
  }
  for (const Offer& offer : offers_) memory += offer.memory;
  expect(adds_up(counters_), "LingerTotal isn't the queue and every end");
  expect(deliveries_under_way(counters_) == delivering(), "deliveries under way");
  expect(kernel_.contents.size() == delivering(), "a content without its delivery");
  expect(count(kOffloads) == begun_, "LingerOffloads");
  expect(count(kOffloadPending) == pending, "LingerOffloadPending");
  expect(count(kOffloadMemory) == memory && memory <= kMemoryLimit, "LingerOffloadMemory");
  expect(count(kDelivered) == kernel_.delivered, "LingerDelivered");
  expect(count(kDeliveryAborted) == aborted_, "LingerDeliveryAborted");
  expect(count(kDeliveryTimedOut) == timed_out_, "LingerDeliveryTimedOut");
  expect(count(kOffloadsRefused) == refused_, "LingerOffloadsRefused");
  expect(lingerer_->size() == kernel_.open.size(), "it lost or kept a socket");
}

}  // namespace

TEST_GROUP(DeliveriesModel){};

TEST(DeliveriesModel, keeps_every_promise_in_random_lives) {
  run_model<Model>("DELIVERIES");
}
