// SPDX-License-Identifier: Apache-2.0
// Whatever file lies where the stats page should be.
#include "lingerd/stats_page.h"

#include <cstring>
#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lingerd;
  StatsSnapshot snapshot;
  std::uint64_t sequence = 0;
  if (size >= offsetof(StatsPage, sequence) + sizeof sequence) {
    std::memcpy(&sequence, data + offsetof(StatsPage, sequence), sizeof sequence);
  }
  (void)read_page(std::as_bytes(std::span(data, size)), sequence, 1'000'000'000, snapshot);
  return 0;
}
