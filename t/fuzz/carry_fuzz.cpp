// SPDX-License-Identifier: Apache-2.0
// Whatever an earlier process left as its state.
#include "lingerd/carry.h"

#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lingerd;
  CarriedState state;
  (void)decode(std::as_bytes(std::span(data, size)), 1'000'000, state);
  return 0;
}
