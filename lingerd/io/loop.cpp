// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/loop.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <system_error>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "base/notify.h"
#include "lingerd/core/deadlines.h"
#include "lingerd/core/deliveries.h"
#include "lingerd/io/acceptor.h"
#include "lingerd/io/closer.h"
#include "lingerd/io/epoll_tag.h"
#include "lingerd/io/file_systems.h"
#include "lingerd/io/gathering.h"
#include "lingerd/io/over_share.h"
#include "lingerd/io/sockets.h"
#include "lingerd/io/stats_file.h"

namespace lingerd {
namespace {

constexpr std::uint64_t kMilli = 1'000'000;
// How long a turn may let wait for it: the stats page's heartbeat is that old at most. Children
// stop parking when it is older than it should be, so it is a quick one while there are any.
constexpr std::uint64_t kHeartbeatNs = 1'000 * kMilli;
constexpr std::uint64_t kQuickHeartbeatNs = 200 * kMilli;
constexpr std::uint64_t kChoresNs = 1'000 * kMilli;

constexpr std::size_t kEventsAtOnce = 512;
constexpr std::size_t kDeadlinesAtOnce = 2'048;

UniqueFd make_epoll() {
  UniqueFd fd(epoll_create1(EPOLL_CLOEXEC));
  if (!fd) throw std::system_error(errno, std::system_category(), "epoll_create1");
  return fd;
}

}  // namespace

struct Loop::State {
  State(const LoopSettings& with, UniqueFd listening, const std::string& page_path,
        std::uint64_t began_ns, pid_t manager)
      : settings(with),
        now(monotonic_ns()),
        started_ns(began_ns != 0 ? began_ns : now),
        epoll(make_epoll()),
        acceptor(epoll.get(), std::move(listening)),
        orders(epoll.get(), manager),
        stats(page_path, started_ns, now, settings.page_owner),
        capacity(counters, settings.max_connections),
        over_share(capacity),
        sockets(epoll.get()),
        deliveries(sockets, capacity, counters),
        lingerer(sockets, deliveries, capacity, counters, settings.max_time_ms),
        parking(lingerer, capacity, counters),
        intake(lingerer, deliveries, parking, capacity, counters, epoll.get(), settings.max_peers,
               settings.batch) {
    intake.set_allowed(settings.allowed_uids, now);
    deliveries.set_limits(settings.offload_memory, settings.min_rate);
    parking.parked().set_request_memory(settings.request_memory);
    watch(epoll.get(), parking.epoll_fd(), OwnTag::kParking);
  }

  void turn();
  int timeout_ms() const;
  void dispatch(const epoll_event& event);
  void do_chores();
  void publish();
  [[nodiscard]] bool finished() const;
  void end();

  LoopSettings settings;
  std::uint64_t now;
  std::uint64_t started_ns;  // when the counters began, in this process or an earlier one
  UniqueFd epoll;
  Acceptor acceptor;
  Orders orders;
  StatsFile stats;
  DaemonCounters counters;
  Capacity capacity;
  OverShare over_share;
  KernelSockets sockets;
  Deliveries deliveries;
  Lingerer lingerer;
  Parking parking;
  Intake intake;

  std::array<epoll_event, kEventsAtOnce> events;
  Gathering gathering;
  std::uint64_t next_beat_ns = 0;  // each turn publishes: there must be one by then
  std::uint64_t next_chores_ns = 0;
  std::uint64_t stop_by_ns = 0;  // nonzero: no more sockets, end all by then
};

Loop::Loop(const LoopSettings& settings, UniqueFd listener, const std::string& stats_path,
           std::uint64_t started_ns, pid_t manager)
    : state_(std::make_unique<State>(settings, std::move(listener), stats_path, started_ns,
                                     manager)) {}

Loop::~Loop() = default;

void Loop::show_page() {
  State& state = *state_;
  state.stats.appear({state.now, state.lingerer.oldest_ns(), &state.counters});
  if (state.stats.problem().empty()) return;
  log::write(log::Level::kWarning,
             "no stats page, so server-status and lingerctl will say that lingerd is down: %s",
             state.stats.problem().c_str());
}

void Loop::begin() {
  closer().start(state_->settings.unwanted, state_->now);
  (void)file_systems();  // reads what is mounted
  state_->publish();
}

std::optional<Order> Loop::run() {
  while (!state_->finished()) {
    if (const auto order = state_->orders.next(state_->now)) return order;
    state_->turn();
  }
  state_->end();
  return std::nullopt;
}

void Loop::send(const std::function<Errand()>& errand) {
  state_->orders.send(errand);
}

const Errand::Answer& Loop::answer() const {
  return state_->orders.answer();
}

void Loop::leave() {
  closer().end();
  state_->stats.leave();
}

bool Loop::stopping() const {
  return state_->stop_by_ns != 0;
}

Loop::Holdings Loop::holdings() {
  return {state_->counters, state_->capacity, state_->lingerer, state_->parking, state_->intake};
}

const LoopSettings& Loop::settings() const {
  return state_->settings;
}

int Loop::listener() const {
  return state_->acceptor.fd();
}

std::uint64_t Loop::started_ns() const {
  return state_->started_ns;
}

std::uint64_t Loop::now() const {
  return state_->now;
}

void Loop::publish() {
  state_->publish();
}

void Loop::apply(const LoopSettings& fresh) {
  State& state = *state_;
  LoopSettings& settings = state.settings;
  settings.text = fresh.text;
  settings.max_connections = fresh.max_connections;
  settings.max_time_ms = fresh.max_time_ms;
  settings.allowed_uids = fresh.allowed_uids;
  settings.offload_memory = fresh.offload_memory;
  settings.request_memory = fresh.request_memory;
  settings.min_rate = fresh.min_rate;
  state.lingerer.set_max_time(settings.max_time_ms);
  state.capacity.set_limit(settings.max_connections, state.now);
  state.intake.set_allowed(settings.allowed_uids, state.now);
  state.deliveries.set_limits(settings.offload_memory, settings.min_rate);
  state.parking.parked().set_request_memory(settings.request_memory);
}

void Loop::begin_stop() {
  State& state = *state_;
  state.orders.forget_errand();
  if (stopping()) {  // a second request means it
    state.stop_by_ns = state.now;
    return;
  }
  state.acceptor.close();
  state.intake.close_all(state.now);
  state.parking.parked().end_all(state.now);
  state.stop_by_ns = state.now + std::uint64_t{state.settings.max_time_ms} * kMilli;
  log::write(log::Level::kNotice, "stopping: %zu sockets still linger, for at most %u s",
             state.lingerer.size() + state.parking.parked().size(),
             (state.settings.max_time_ms + 999) / 1'000);
}

bool Loop::State::finished() const {
  const bool empty = lingerer.size() == 0 && parking.parked().size() == 0;
  return stop_by_ns != 0 && (empty || now >= stop_by_ns);
}

void Loop::State::end() {
  parking.parked().end_all(now);
  lingerer.end_all(now);
  closer().look_after(now);
  publish();
  closer().end();
}

void Loop::State::turn() {
  gathering.wait(parking, now);
  const int n =
      epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), timeout_ms());
  // These don't pass: going on would be going round and round, with the watchdog content.
  if (n < 0 && (errno == EBADF || errno == EINVAL || errno == EFAULT)) {
    throw std::system_error(errno, std::system_category(), "epoll_wait");
  }
  now = monotonic_ns();
  parking.beat(now);
  // What came in the turn before has had a millisecond: most of those clients have closed by now.
  if (lingerer.has_fresh()) lingerer.settle(now);
  for (int i = 0; i < n; ++i) dispatch(events[static_cast<std::size_t>(i)]);
  if (gathering.looks_at_once(now)) lingerer.settle(now);
  lingerer.expire(now, kDeadlinesAtOnce);
  parking.parked().expire(now, kDeadlinesAtOnce);
  if (parking.end_lost_ways(now)) intake.settle_ways_back(now);
  acceptor.try_again(intake, now);
  if (now >= next_chores_ns) do_chores();
  closer().look_after(now);
  intake.look_after_peers();
  publish();
  next_beat_ns =
      now + (intake.peers() > 0 || parking.parked().size() > 0 ? kQuickHeartbeatNs : kHeartbeatNs);
}

int Loop::State::timeout_ms() const {
  if (lingerer.has_fresh()) return 0;
  std::uint64_t wake = std::min(next_beat_ns, next_chores_ns);
  for (const auto deadline : {lingerer.next_deadline(), parking.parked().next_deadline()}) {
    if (deadline) wake = std::min(wake, *deadline * kMilli);
  }
  if (const auto again = acceptor.wake_ns()) wake = std::min(wake, *again);
  if (stop_by_ns != 0) wake = std::min(wake, stop_by_ns);
  if (const auto look = orders.wake_ns(now)) wake = std::min(wake, *look);
  if (const auto look = closer().next_look_ns()) wake = std::min(wake, *look);
  const std::uint64_t clock = monotonic_ns();
  return wake <= clock ? 0 : static_cast<int>((wake - clock + kMilli - 1) / kMilli);
}

void Loop::State::dispatch(const epoll_event& event) {
  const std::uint64_t tag = event.data.u64;
  if (is_sockets(tag)) {
    lingerer.ready(socket_of(tag), generation_of(tag), now);
    return;
  }
  switch (static_cast<OwnTag>(tag)) {
    case OwnTag::kListener: acceptor.accept(intake, now); break;
    case OwnTag::kSignals: orders.read_signals(now); break;
    case OwnTag::kParking: parking.dispatch(now); break;
    case OwnTag::kErrand: break;  // looked at before each turn
    default: gathering.note(intake.receive(peer_of(tag), event.events, now, false));
  }
}

void Loop::State::publish() {
  counters[DaemonCounter::kPeers] = intake.peers();
  counters[DaemonCounter::kUnclosed] = closer().waiting();
  counters[DaemonCounter::kClosersStuck] = closer().stuck();
  stats.publish({now, lingerer.oldest_ns(), &counters});
}

// What is done now and then, whatever comes.
void Loop::State::do_chores() {
  parking.look_after_httpd(now);
  log::say_lost();
  Errand::reap();
  intake.expire_offers(now);
  next_chores_ns = now + kChoresNs;
  if (settings.watchdog_us == 0) return;
  // Twice in the time after which systemd loses patience, as sd_watchdog_enabled(3) advises.
  next_chores_ns = std::min(next_chores_ns, now + settings.watchdog_us * 1'000 / 2);
  notify_watchdog();
}

}  // namespace lingerd
