// SPDX-License-Identifier: Apache-2.0
#include "lingerd/loop.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <iterator>
#include <system_error>
#include <utility>

#include "lingerd/carry.h"
#include "lingerd/intake.h"
#include "lingerd/lingerer.h"
#include "lingerd/log.h"
#include "lingerd/log_limiter.h"
#include "lingerd/notify.h"
#include "lingerd/parking.h"
#include "lingerd/sockets.h"
#include "lingerd/stats_file.h"

namespace lingerd {
namespace {

constexpr std::uint64_t kMilli = 1'000'000;
constexpr std::uint64_t kHeartbeatNs = 1'000 * kMilli;

// Under load, arrivals are taken in batches: waking for each costs more than the work itself.
constexpr std::uint64_t kCoalesceNs = 1 * kMilli;
// Arrivals this close to each other are load.
constexpr std::uint64_t kLoadGapNs = 2 * kMilli;

constexpr std::size_t kEventsAtOnce = 512;
constexpr std::size_t kDeadlinesAtOnce = 2'048;
constexpr std::uint64_t kAcceptPauseNs = 100 * kMilli;

constexpr std::uint64_t kListenerTag = kNotASocket | (std::uint64_t{1} << 32);
constexpr std::uint64_t kSignalTag = kNotASocket | (std::uint64_t{2} << 32);
constexpr std::uint64_t kParkingTag = kNotASocket | (std::uint64_t{3} << 32);

std::uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

UniqueFd checked(int fd, const char* what) {
  if (fd < 0) throw std::system_error(errno, std::system_category(), what);
  return UniqueFd(fd);
}

UniqueFd signal_fd() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR2}) sigaddset(&signals, signal);
  return checked(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd");
}

// Contents come in the order of the sockets that deliver them. One whose content is missing has
// nothing more to send.
void give_contents(std::vector<Lingerer::Carried>& sockets, std::vector<UniqueFd>& contents) {
  std::size_t at = 0;
  for (Lingerer::Carried& socket : sockets) {
    if (!socket.state.delivers()) continue;
    if (at < contents.size()) {
      socket.content = static_cast<SocketId>(contents[at++].release());
    } else {
      socket.state.content_left = 0;
    }
  }
}

std::vector<UniqueFd> take_front(std::vector<UniqueFd>& descriptors, std::size_t count) {
  const auto end = descriptors.begin() +
                   static_cast<std::ptrdiff_t>(std::min<std::size_t>(count, descriptors.size()));
  std::vector<UniqueFd> front(std::make_move_iterator(descriptors.begin()),
                              std::make_move_iterator(end));
  descriptors.erase(descriptors.begin(), end);
  return front;
}

}  // namespace

struct Loop::State {
  State(const LoopSettings& with, UniqueFd listening, const std::string& page_path,
        const CarriedState& carried)
      : settings(with),
        now(monotonic_ns()),
        started_ns(carried.started_ns != 0 ? carried.started_ns : now),
        epoll(checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
        signals(signal_fd()),
        listener(std::move(listening)),
        stats_path(page_path),
        stats(std::in_place, page_path, started_ns, now),
        sockets(epoll.get()),
        lingerer(sockets, settings.max_connections, settings.max_time_ms),
        parking(lingerer),
        intake(lingerer, parking, epoll.get(), settings.max_peers) {
    intake.set_max_connections(settings.max_connections);
    intake.set_allowed(settings.allowed_uids, now);
    lingerer.set_offload_limits(settings.offload_memory, settings.min_rate);
    add(signals.get(), kSignalTag);
    add(listener.get(), kListenerTag);
    add(parking.epoll_fd(), kParkingTag);
  }

  void add(int fd, std::uint64_t tag) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = tag;
    if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      throw std::system_error(errno, std::system_category(), "epoll_ctl");
    }
  }

  void turn();
  void coalesce();
  void let_gather();
  int timeout_ms() const;
  void dispatch(const epoll_event& event);
  void accept_peers();
  void beat();
  void publish();
  void show_page();
  void read_signals();
  void reload_settings();
  void begin_stop();
  void take_over(const CarriedState& carried, CarryResult result,
                 std::vector<UniqueFd> descriptors);
  void hand_over();
  [[nodiscard]] bool finished() const;

  LoopSettings settings;
  std::uint64_t now;
  std::uint64_t started_ns;  // when the counters began, in this process or an earlier one
  UniqueFd epoll;
  UniqueFd signals;
  UniqueFd listener;
  std::string stats_path;
  std::optional<StatsFile> stats;
  KernelSockets sockets;
  Lingerer lingerer;
  Parking parking;
  Intake intake;

  std::function<LoopSettings()> reload;
  std::function<void()> ready;
  std::function<void()> stopping;
  std::function<bool(const Parcel&, int)> replace;

  std::array<epoll_event, kEventsAtOnce> events;
  std::size_t arrived = 0;  // in this turn
  std::uint64_t last_arrival_ns = 0;
  bool loaded = false;  // arrivals follow each other closely: coalesce
  std::uint64_t next_beat_ns = 0;
  std::uint64_t accept_again_ns = 0;  // nonzero: the listener is paused until then
  LogLimiter accept_limiter;
  std::uint64_t stop_by_ns = 0;  // nonzero: no more sockets, end all by then
  bool handed_over = false;      // everything is a successor's
};

Loop::Loop(const LoopSettings& settings, UniqueFd listener, const std::string& stats_path,
           std::optional<Parcel> inherited) {
  CarriedState carried;
  CarryResult result = CarryResult::kOk;
  Unpacked unpacked;
  if (inherited) {
    unpacked = unpack(std::move(*inherited));
    result = decode(unpacked.state, monotonic_ns() / kMilli, carried);
  }
  state_ = std::make_unique<State>(settings, std::move(listener), stats_path, carried);
  if (inherited) {
    state_->take_over(carried, result, std::move(unpacked.descriptors));
  }
  state_->show_page();
}

Loop::~Loop() = default;

void Loop::on_reload(std::function<LoopSettings()> reload) {
  state_->reload = std::move(reload);
}
void Loop::on_ready(std::function<void()> ready) {
  state_->ready = std::move(ready);
}
void Loop::on_stopping(std::function<void()> stopping) {
  state_->stopping = std::move(stopping);
}

void Loop::on_replace(std::function<bool(const Parcel&, int)> replace) {
  state_->replace = std::move(replace);
}

void Loop::run() {
  state_->publish();
  if (state_->ready) state_->ready();
  while (!state_->finished()) state_->turn();
  if (state_->handed_over) {
    state_->stats->leave();
    return;
  }
  state_->parking.parked().end_all(state_->now);
  state_->lingerer.end_all(state_->now);
  state_->publish();
}

bool Loop::State::finished() const {
  const bool empty = lingerer.size() == 0 && parking.parked().size() == 0;
  return handed_over || (stop_by_ns != 0 && (empty || now >= stop_by_ns));
}

void Loop::State::turn() {
  coalesce();
  const int n =
      epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), timeout_ms());
  // These don't pass: going on would be going round and round, with the watchdog content.
  if (n < 0 && (errno == EBADF || errno == EINVAL || errno == EFAULT)) {
    throw std::system_error(errno, std::system_category(), "epoll_wait");
  }
  now = monotonic_ns();
  // What came in the turn before has had a millisecond: most of those clients have closed by now.
  if (lingerer.has_fresh()) lingerer.settle(now);
  arrived = 0;
  for (int i = 0; i < n && !handed_over; ++i) dispatch(events[static_cast<std::size_t>(i)]);
  // What is still to be read is the successor's: records that we took now would be lost with us.
  if (handed_over) return;
  if (arrived > 0) {
    loaded = now - last_arrival_ns < kLoadGapNs;
    last_arrival_ns = now;
    if (!loaded) lingerer.settle(now);
  }
  lingerer.expire(now, kDeadlinesAtOnce);
  parking.parked().expire(now, kDeadlinesAtOnce);
  if (accept_again_ns != 0 && now >= accept_again_ns) accept_peers();
  const bool beats = now >= next_beat_ns;
  if (beats) parking.look_after_httpd(now);
  publish();
  if (beats) beat();
}

// After arrivals under load: let more come, and their clients close, before looking again.
void Loop::State::coalesce() {
  if (!loaded || arrived == 0) return;
  if (parking.parked().size() > 0) {
    let_gather();
    return;
  }
  const timespec pause{0, static_cast<long>(kCoalesceNs)};
  nanosleep(&pause, nullptr);
}

// The same, but who is parked and sends a request waits for it: that goes back at once.
void Loop::State::let_gather() {
  const std::uint64_t until = monotonic_ns() + kCoalesceNs;
  pollfd parked{parking.epoll_fd(), POLLIN, 0};
  for (;;) {
    now = monotonic_ns();
    if (now >= until) return;
    const timespec pause{0, static_cast<long>(until - now)};
    if (ppoll(&parked, 1, &pause, nullptr) > 0) parking.dispatch(now);
  }
}

int Loop::State::timeout_ms() const {
  if (lingerer.has_fresh()) return 0;
  std::uint64_t wake = next_beat_ns;
  for (const auto deadline : {lingerer.next_deadline(), parking.parked().next_deadline()}) {
    if (deadline) wake = std::min(wake, *deadline * kMilli);
  }
  if (accept_again_ns != 0) wake = std::min(wake, accept_again_ns);
  if (stop_by_ns != 0) wake = std::min(wake, stop_by_ns);
  const std::uint64_t clock = monotonic_ns();
  return wake <= clock ? 0 : static_cast<int>((wake - clock + kMilli - 1) / kMilli);
}

void Loop::State::dispatch(const epoll_event& event) {
  const std::uint64_t tag = event.data.u64;
  if ((tag & kNotASocket) == 0) {
    lingerer.ready(static_cast<SocketId>(tag), static_cast<std::uint32_t>(tag >> 32), now);
  } else if (tag == kListenerTag) {
    accept_peers();
  } else if (tag == kSignalTag) {
    read_signals();
  } else if (tag == kParkingTag) {
    parking.dispatch(now);
  } else {
    arrived +=
        intake.receive(static_cast<int>(static_cast<std::uint32_t>(tag)), event.events, now, false);
  }
}

void Loop::State::accept_peers() {
  if (!listener) return;
  const bool paused = accept_again_ns != 0;
  const bool fine = intake.accept_peers(listener.get(), now);
  accept_again_ns = fine ? 0 : now + kAcceptPauseNs;
  if (fine == !paused) return;
  // A listener that can't be accepted from stays readable: don't watch it meanwhile.
  epoll_event event{};
  event.events = fine ? std::uint32_t{EPOLLIN} : 0;
  event.data.u64 = kListenerTag;
  epoll_ctl(epoll.get(), EPOLL_CTL_MOD, listener.get(), &event);
  if (fine) return;
  if (const auto held_back = accept_limiter.allow(now / kMilli)) {
    log::write(log::Level::kWarning,
               "can't accept a connection: out of descriptors or memory; trying again (%llu more "
               "times since)",
               static_cast<unsigned long long>(*held_back));
  }
}

void Loop::State::publish() {
  lingerer.note_peers(intake.peers());
  stats->publish({now, lingerer.oldest_ns(), &lingerer.counters()});
}

void Loop::State::show_page() {
  stats->appear({now, lingerer.oldest_ns(), &lingerer.counters()});
  if (stats->problem().empty()) return;
  log::write(log::Level::kWarning,
             "no stats page, so server-status and lingerctl will say that lingerd is down: %s",
             stats->problem().c_str());
}

// Each turn publishes, so the heartbeat only has to see to it that there is a turn now and then.
void Loop::State::beat() {
  next_beat_ns = now + kHeartbeatNs;
  if (settings.watchdog_us == 0) return;
  // Twice in the time after which systemd loses patience, as sd_watchdog_enabled(3) advises.
  next_beat_ns = std::min(next_beat_ns, now + settings.watchdog_us * 1'000 / 2);
  notify_watchdog();
}

void Loop::State::read_signals() {
  signalfd_siginfo info{};
  while (!handed_over && ::read(signals.get(), &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGHUP) {
      reload_settings();
    } else if (info.ssi_signo == SIGUSR2) {
      hand_over();
    } else {
      begin_stop();
    }
  }
}

void Loop::State::reload_settings() {
  if (!reload || stop_by_ns != 0) return;
  const LoopSettings fresh = reload();
  settings.max_connections = fresh.max_connections;
  settings.max_time_ms = fresh.max_time_ms;
  settings.allowed_uids = fresh.allowed_uids;
  intake.set_max_connections(settings.max_connections);
  intake.make_room(0, now);
  lingerer.set_limits(settings.max_connections, settings.max_time_ms, now);
  settings.offload_memory = fresh.offload_memory;
  settings.min_rate = fresh.min_rate;
  intake.set_allowed(settings.allowed_uids, now);
  lingerer.set_offload_limits(settings.offload_memory, settings.min_rate);
}

// Everything that another lingerd needs to go on, in one parcel. Our own copies stay until this
// process ends: if no successor can be had, nothing has happened.
void Loop::State::hand_over() {
  if (!replace || stop_by_ns != 0) return;
  intake.settle_offers(now);
  lingerer.settle(now);
  try {
    CarriedState state;
    state.started_ns = started_ns;
    state.counters = lingerer.counters();
    Parking::Luggage luggage = parking.carry_out();
    state.parked = std::move(luggage.states);
    state.addresses = luggage.addresses.size();
    std::vector<int> descriptors = std::move(luggage.sockets);
    descriptors.insert(descriptors.end(), luggage.addresses.begin(), luggage.addresses.end());
    std::vector<int> contents;
    for (const auto& [id, socket, content] : lingerer.carry_out()) {
      state.sockets.push_back(socket);
      descriptors.push_back(static_cast<int>(id));
      if (socket.delivers()) contents.push_back(static_cast<int>(content));
    }
    descriptors.insert(descriptors.end(), contents.begin(), contents.end());
    const std::vector<int> peers = intake.descriptors();
    descriptors.insert(descriptors.end(), peers.begin(), peers.end());
    log::write(log::Level::kNotice, "handing over %zu sockets and %zu peers",
               state.sockets.size() + state.parked.size(), peers.size());
    handed_over = replace(pack(encode(state), descriptors), listener.get());
    // A successor that came that far has put its own page there.
    if (!handed_over && !stats->is_there()) {
      stats.emplace(stats_path, started_ns, now);
      show_page();
    }
  } catch (const std::exception& problem) {
    log::write(log::Level::kError, "can't hand over, going on: %s", problem.what());
  }
  // systemd, restarting us, waits for our end, and kills what hasn't ended by TimeoutStopSec=.
  if (!handed_over && started_by_systemd()) begin_stop();
}

// What an earlier lingerd left. Without a state that can be read (another version's) the sockets
// still linger, as if they had just come.
void Loop::State::take_over(const CarriedState& carried, CarryResult result,
                            std::vector<UniqueFd> descriptors) {
  // As if handed off now: a hand-off at time 0 would be over its cap.
  const Handoff anew_now{.idle_ms = 5'000, .cap_ms = 30'000, .handed_off_ns = now};
  if (result != CarryResult::kOk) {
    log::write(log::Level::kWarning,
               "the sockets that came with the start have a state of %s: their time begins anew",
               result == CarryResult::kOtherVersion ? "another version" : "an unknown kind");
  }
  std::vector<Lingerer::Carried> sockets;
  std::vector<SocketId> anew;
  std::vector<UniqueFd> contents;
  // Parked connections and their ways back come first, so many as the state says.
  std::vector<UniqueFd> parked = take_front(descriptors, carried.parked.size());
  std::vector<UniqueFd> addresses = take_front(descriptors, carried.addresses);
  const std::size_t waiting = parked.size();
  for (UniqueFd& fd : descriptors) {
    SocketId id = 0;
    if (KernelSockets::is_content(fd.get())) {
      contents.push_back(std::move(fd));
    } else if (!KernelSockets::adopt(fd, id)) {
      intake.readmit(std::move(fd), now);
    } else if (sockets.size() < carried.sockets.size()) {
      sockets.push_back({id, carried.sockets[sockets.size()]});
    } else {
      anew.push_back(id);
    }
  }
  give_contents(sockets, contents);
  const std::size_t count = waiting + sockets.size() + anew.size();
  lingerer.carry_in(carried.counters, std::move(sockets), now);
  parking.carry_in(carried.parked, std::move(parked), std::move(addresses), now);
  for (const SocketId id : anew) {
    // It may have been parked, or have had something to deliver: its client must not wait.
    shutdown(static_cast<int>(id), SHUT_WR);
    lingerer.arrive(id, anew_now, now, true);
  }
  publish();  // whoever reads this line finds them on the page
  log::write(log::Level::kNotice, "took over %zu sockets and %zu peers", count, intake.peers());
}

void Loop::State::begin_stop() {
  if (stop_by_ns != 0) {
    // A second request means it.
    stop_by_ns = now;
    return;
  }
  if (stopping) stopping();
  listener.reset();
  accept_again_ns = 0;
  intake.close_all(now);
  parking.parked().end_all(now);
  stop_by_ns = now + std::uint64_t{settings.max_time_ms} * kMilli;
  log::write(log::Level::kNotice, "stopping: %zu sockets still linger, for at most %u s",
             lingerer.size() + parking.parked().size(), (settings.max_time_ms + 999) / 1'000);
}

}  // namespace lingerd
