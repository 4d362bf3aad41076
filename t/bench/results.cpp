// SPDX-License-Identifier: Apache-2.0
#include "t/bench/results.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>

namespace ablinger {
namespace {

constexpr std::array<const char*, static_cast<std::size_t>(Error::kCount)> kErrorNames{
    "connect", "reset", "short", "malformed", "status", "length", "body", "timeout", "tls"};

constexpr std::array<std::pair<const char*, double>, 4> kPercentiles{
    {{"p50", 50.0}, {"p90", 90.0}, {"p99", 99.0}, {"p999", 99.9}}};

double seconds(std::int64_t ns) {
  return static_cast<double>(ns) / kSecond;
}
double micros(std::uint64_t ns) {
  return static_cast<double>(ns) / 1000.0;
}
double per_second(std::uint64_t count, std::int64_t ns) {
  return ns > 0 ? static_cast<double>(count) / seconds(ns) : 0.0;
}

// Of one processor, over the whole run: near 1 a thread, ablinger itself is the bottleneck.
double cpu_share(const Results& r) {
  return r.whole_time > 0 ? seconds(r.user_time + r.system_time) / seconds(r.whole_time) : 0.0;
}

double cpu_micros_per_request(const Results& r) {
  const std::uint64_t all = r.completed + r.uncounted;
  return all > 0 ? seconds(r.user_time + r.system_time) * 1e6 / static_cast<double>(all) : 0.0;
}

[[gnu::format(printf, 2, 3)]] void add(std::string& text, const char* format, ...) {
  std::array<char, 256> line{};
  va_list args;
  va_start(args, format);
  std::vsnprintf(line.data(), line.size(), format, args);
  va_end(args);
  text += line.data();
}

}  // namespace

const char* name(Error error) {
  return kErrorNames[static_cast<std::size_t>(error)];
}

std::uint64_t Results::failed() const {
  return std::accumulate(errors.begin(), errors.end(), std::uint64_t{0});
}

void Results::merge(const Results& other) {
  completed += other.completed;
  uncounted += other.uncounted;
  for (std::size_t i = 0; i < errors.size(); ++i) errors[i] += other.errors[i];
  latency.merge(other.latency);
  body_bytes += other.body_bytes;
  sent_bytes += other.sent_bytes;
  connections += other.connections;
  late_closes += other.late_closes;
  late_cut_short += other.late_cut_short;
  late_peak += other.late_peak;
  held_back += other.held_back;
  close_notifies += other.close_notifies;
  stale += other.stale;
  waits += other.waits;
  counted_time = std::max(counted_time, other.counted_time);
  whole_time = std::max(whole_time, other.whole_time);
}

nlohmann::json to_json(const Results& r, const Options& o) {
  nlohmann::json errors;
  for (std::size_t i = 0; i < kErrorNames.size(); ++i) errors[kErrorNames[i]] = r.errors[i];
  nlohmann::json latency{{"min", micros(r.latency.min())},
                         {"mean", r.latency.mean() / 1000.0},
                         {"max", micros(r.latency.max())}};
  for (const auto& [key, percent] : kPercentiles) {
    latency[key] = micros(r.latency.percentile(percent));
  }
  return {{"requests", r.completed},
          {"requests_uncounted", r.uncounted},
          {"requests_per_second", per_second(r.completed, r.counted_time)},
          {"seconds", seconds(r.counted_time)},
          {"seconds_in_all", seconds(r.whole_time)},
          {"concurrency", o.concurrency},
          {"threads", o.threads},
          {"failed", r.failed()},
          {"errors", errors},
          {"latency_us", latency},
          {"body_bytes", r.body_bytes},
          {"sent_bytes", r.sent_bytes},
          {"connections", r.connections},
          {"late_closes", r.late_closes},
          {"late_cut_short", r.late_cut_short},
          {"late_peak", r.late_peak},
          {"held_back", r.held_back},
          {"close_notifies", r.close_notifies},
          {"stale_connections", r.stale},
          {"epoll_waits", r.waits},
          {"cpu_user_seconds", seconds(r.user_time)},
          {"cpu_system_seconds", seconds(r.system_time)},
          {"cpu_share", cpu_share(r)},
          {"cpu_us_per_request", cpu_micros_per_request(r)}};
}

std::string to_text(const Results& r, const Options& o) {
  std::string text;
  add(text, "%llu requests in %.2f s, %u at a time: %.0f requests/s, %.1f MB of bodies\n",
      static_cast<unsigned long long>(r.completed), seconds(r.counted_time), o.concurrency,
      per_second(r.completed, r.counted_time), static_cast<double>(r.body_bytes) / 1e6);
  add(text, "latency in ms:");
  for (const auto& [key, percent] : kPercentiles) {
    add(text, "  %s %.3f", key, micros(r.latency.percentile(percent)) / 1000.0);
  }
  add(text, "  max %.3f\n", micros(r.latency.max()) / 1000.0);
  add(text, "failed: %llu", static_cast<unsigned long long>(r.failed()));
  for (std::size_t i = 0; i < kErrorNames.size(); ++i) {
    if (r.errors[i] > 0) {
      add(text, "  %s %llu", kErrorNames[i], static_cast<unsigned long long>(r.errors[i]));
    }
  }
  add(text, "\nlate: %llu closed in their own time, %llu reset by the server, %llu open at most",
      static_cast<unsigned long long>(r.late_closes),
      static_cast<unsigned long long>(r.late_cut_short),
      static_cast<unsigned long long>(r.late_peak));
  if (r.held_back > 0) {
    add(text, "; %llu requests waited for --max-late",
        static_cast<unsigned long long>(r.held_back));
  }
  add(text, "\nablinger itself: %.0f %% of a processor, %.1f us a request\n", cpu_share(r) * 100.0,
      cpu_micros_per_request(r));
  return text;
}

}  // namespace ablinger
