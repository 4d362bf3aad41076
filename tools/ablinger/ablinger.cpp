// SPDX-License-Identifier: Apache-2.0
// Load from clients that close late. The successor of the tool of that name that came with lingerd
// 0.94.
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <thread>
#include <utility>
#include <vector>

#include "tools/ablinger/load.h"
#include "tools/ablinger/options.h"
#include "tools/ablinger/results.h"

namespace ablinger {
namespace {

std::atomic<bool> stop{false};

std::uint64_t raise_descriptor_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_max;
}

// An equal part of each for every thread, the first ones taking what is left over.
Share share_of(const Options& o, std::uint64_t max_late, unsigned thread) {
  const auto part = [&](std::uint64_t all) {
    return all / o.threads + (thread < all % o.threads ? 1 : 0);
  };
  return {.slots = static_cast<unsigned>(part(o.concurrency)),
          .requests = part(o.requests),
          .max_late = part(max_late),
          .rate = o.rate / o.threads,
          .seed = thread};
}

std::int64_t nanoseconds(const timeval& time) {
  return time.tv_sec * kSecond + time.tv_usec * 1000L;
}

Results run(const Options& o, std::uint64_t max_late) {
  std::vector<Results> results(o.threads);
  {
    std::vector<std::jthread> others;
    const auto work = [&](unsigned thread) {
      results[thread] = Load(o, share_of(o, max_late, thread)).run(stop);
    };
    for (unsigned thread = 1; thread < o.threads; ++thread) others.emplace_back(work, thread);
    work(0);
  }
  for (unsigned thread = 1; thread < o.threads; ++thread) results[0].merge(results[thread]);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  results[0].user_time = nanoseconds(usage.ru_utime);
  results[0].system_time = nanoseconds(usage.ru_stime);
  return std::move(results[0]);
}

int report(const Results& results, const Options& o) {
  if (o.json == "-") {
    std::cout << to_json(results, o) << '\n';
    return 0;
  }
  std::cout << to_text(results, o);
  if (o.json.empty()) return 0;
  std::ofstream file(o.json);
  file << to_json(results, o) << '\n';
  if (file.flush()) return 0;
  std::fprintf(stderr, "ablinger: can't write %s\n", o.json.c_str());
  return 1;
}

}  // namespace
}  // namespace ablinger

// Exits with 0 if every response was good, 1 if one wasn't, 2 for a wrong option.
int main(int argc, char** argv) try {
  using namespace ablinger;
  Options options = parse_options(argc, argv);
  const std::uint64_t limit = raise_descriptor_limit();
  const std::uint64_t reserve = options.concurrency + 64;
  options.threads = std::min(options.threads, options.concurrency);
  if (options.max_late == 0) {
    options.max_late = limit > reserve ? limit - reserve : 1;
    options.max_late *= std::max(options.late_tables, 1U);
  }
  std::signal(SIGINT, [](int) { stop = true; });
  std::signal(SIGTERM, [](int) { stop = true; });
  // OpenSSL writes with write(2): to a connection that the server has reset, too.
  std::signal(SIGPIPE, SIG_IGN);
  const Results results = run(options, options.max_late);
  const int written = report(results, options);
  return written != 0 || results.failed() > 0 ? 1 : 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "ablinger: %s\n", e.what());
  return 1;
}
