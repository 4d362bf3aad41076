// SPDX-License-Identifier: Apache-2.0
#include "tools/ablinger/results.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <string_view>
#include <utility>

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

// Of JSON. Its names need no escapes.
class Object {
 public:
  void add(std::string_view name, std::integral auto value) { put(name, std::to_string(value)); }
  void add(std::string_view name, double value) {
    std::array<char, 32> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    put(name, std::isfinite(value) ? std::string_view(digits.data(), end) : "null");
  }
  void add(std::string_view name, const Object& value) { put(name, value.text()); }
  [[nodiscard]] std::string text() const { return members_.empty() ? "{}" : members_ + "}"; }

 private:
  void put(std::string_view name, std::string_view value) {
    members_ += members_.empty() ? "{\"" : ", \"";
    members_.append(name).append("\": ").append(value);
  }
  std::string members_;
};

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

std::string to_json(const Results& r, const Options& o) {
  Object errors;
  for (std::size_t i = 0; i < kErrorNames.size(); ++i) errors.add(kErrorNames[i], r.errors[i]);
  Object latency;
  latency.add("min", micros(r.latency.min()));
  latency.add("mean", r.latency.mean() / 1000.0);
  latency.add("max", micros(r.latency.max()));
  for (const auto& [key, percent] : kPercentiles) {
    latency.add(key, micros(r.latency.percentile(percent)));
  }
  Object all;
  all.add("requests", r.completed);
  all.add("requests_uncounted", r.uncounted);
  all.add("requests_per_second", per_second(r.completed, r.counted_time));
  all.add("seconds", seconds(r.counted_time));
  all.add("seconds_in_all", seconds(r.whole_time));
  all.add("concurrency", o.concurrency);
  all.add("threads", o.threads);
  all.add("failed", r.failed());
  all.add("errors", errors);
  all.add("latency_us", latency);
  all.add("body_bytes", r.body_bytes);
  all.add("sent_bytes", r.sent_bytes);
  all.add("connections", r.connections);
  all.add("late_closes", r.late_closes);
  all.add("late_cut_short", r.late_cut_short);
  all.add("late_peak", r.late_peak);
  all.add("held_back", r.held_back);
  all.add("close_notifies", r.close_notifies);
  all.add("stale_connections", r.stale);
  all.add("epoll_waits", r.waits);
  all.add("cpu_user_seconds", seconds(r.user_time));
  all.add("cpu_system_seconds", seconds(r.system_time));
  all.add("cpu_share", cpu_share(r));
  all.add("cpu_us_per_request", cpu_micros_per_request(r));
  return all.text();
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
