// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/tally.h"

#include <httpd.h>  // before the others, which need it

#include <apr_shm.h>
#include <apr_strings.h>
#include <http_config.h>
#include <http_log.h>

#include <new>
#include <string>

#include "mod_linger/module.h"

namespace lingerd {
namespace {

using enum ModuleCounter;

ModuleCounter counter_of(Obstacle obstacle) {
  switch (obstacle) {
    case Obstacle::kDenied: return kFallbacksDenied;
    case Obstacle::kBusy:
    case Obstacle::kGreeting: return kFallbacksBusy;
    default: return kFallbacksDown;
  }
}

}  // namespace

void Tally::count_handoff(std::uint64_t now_ns, std::uint64_t took_ns) {
  count(kHandoffs);
  count(kHandoffMicros, took_ns);
  ring_.count_handoff(now_ns);
}

void Tally::count_fallback(Obstacle obstacle, std::uint64_t now_ns) {
  count(counter_of(obstacle));
  unreported_.fetch_add(1, std::memory_order_relaxed);
  ring_.count_fallback(now_ns);
}

std::uint64_t Tally::fallbacks() const {
  return get(kFallbacksDown) + get(kFallbacksBusy) + get(kFallbacksDenied);
}

ModuleCounters Tally::counters() const {
  ModuleCounters values;
  for (std::size_t i = 0; i < kModuleCounters; ++i) {
    values.array()[i] = counts_[i].load(std::memory_order_relaxed);
  }
  values[kFallbacks] = values[kFallbacksDown] + values[kFallbacksBusy] + values[kFallbacksDenied];
  values[kHandoffMicros] /= 1'000;
  values[kTlsResumeMicros] /= 1'000;
  return values;
}

Tally::Place Tally::look_at(std::string_view socket_path) {
  if (socket_path == looked_at_) return place_.load();
  const bool first = looked_at_[0] == '\0';
  looked_at_[socket_path.copy(looked_at_, sizeof looked_at_ - 1)] = '\0';
  if (first) return place_.load();
  busy_logged_ns_.store(0);
  way_back_refused_.store(false);
  return place_.fetch_add(kFoundMask + 1) + kFoundMask + 1;
}

std::optional<Tally::Change> Tally::change_to_up(Place place) {
  if (place != place_.load(std::memory_order_relaxed)) return std::nullopt;
  const std::uint32_t before = found_.exchange(kFoundUp | place);
  if (before == (kFoundUp | place)) return std::nullopt;
  times_up_.fetch_add(1, std::memory_order_relaxed);
  const Obstacle obstacle = obstacle_in(before);
  if (obstacle == Obstacle::kNone) return std::nullopt;  // as it should be: nothing to say
  return Change{obstacle, fallbacks() - fallbacks_before_.load()};
}

std::optional<Tally::Change> Tally::found(Obstacle obstacle, Place place, std::uint64_t now_ns) {
  if (place != place_.load(std::memory_order_relaxed)) return std::nullopt;
  std::uint32_t before = found_.load(std::memory_order_relaxed);
  const auto after = static_cast<std::uint32_t>(obstacle) | place;
  // Not welcomed yet: lingerd is starting, or was busy for a moment. The next child knows more.
  if (before == after || obstacle == Obstacle::kGreeting) return std::nullopt;
  if (obstacle == Obstacle::kBusy) {
    // A queue at its brim is full and not full many times a second: say so now and then.
    std::uint64_t logged = busy_logged_ns_.load();
    if (logged != 0 && now_ns < logged + kBusyLogPeriodNs) return std::nullopt;
    if (!busy_logged_ns_.compare_exchange_strong(logged, now_ns)) return std::nullopt;
  }
  if (!found_.compare_exchange_strong(before, after)) return std::nullopt;
  const Obstacle obstacle_before = obstacle_in(before);
  if (obstacle_before == Obstacle::kNone) fallbacks_before_.store(fallbacks());
  return Change{obstacle_before, 0};
}

Tally* find_or_make_tally(server_rec* server) {
  // What is retained is the process's own: configurations come and go with each restart. The
  // size in the name makes a newer module, loaded by a graceful restart, start afresh instead of
  // reading an older one's layout.
  static const std::string key = "mod_linger tally " + std::to_string(sizeof(Tally));
  if (auto* known = static_cast<Tally**>(ap_retained_data_get(key.c_str()))) return *known;
  apr_shm_t* memory = nullptr;
  const apr_status_t status =
      apr_shm_create(&memory, sizeof(Tally), nullptr, server->process->pool);
  if (status != APR_SUCCESS) {
    ap_log_error(APLOG_MARK, APLOG_ERR, status, server,
                 "no shared memory for mod_linger's counters: Apache lingers itself");
    return nullptr;
  }
  auto* tally = new (apr_shm_baseaddr_get(memory)) Tally;
  // ap_retained_data_create keeps the key's pointer, and this module may be unloaded.
  auto** retained = static_cast<Tally**>(
      ap_retained_data_create(apr_pstrdup(server->process->pool, key.c_str()), sizeof tally));
  *retained = tally;
  return tally;
}

}  // namespace lingerd
