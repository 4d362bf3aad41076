// SPDX-License-Identifier: Apache-2.0
// Says in the log when a user has to make room because it holds more than its share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/log_limiter.h"
#include "lingerd/core/capacity.h"

namespace lingerd {

class OverShare final : private Capacity::Witness {
 public:
  explicit OverShare(Capacity& capacity) : capacity_(capacity) { capacity.set(*this); }
  OverShare(const OverShare&) = delete;
  OverShare& operator=(const OverShare&) = delete;

 private:
  void over_share(Capacity::User user, std::size_t holds, std::uint64_t now_ns) override;

  const Capacity& capacity_;
  LogLimiter limiter_;
};

}  // namespace lingerd
