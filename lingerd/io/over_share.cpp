// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/over_share.h"

#include "base/log.h"

namespace lingerd {

void OverShare::over_share(Capacity::User user, std::size_t holds, std::uint64_t now_ns) {
  const auto held_back = limiter_.allow(now_ns / 1'000'000);
  if (!held_back) return;
  log::write(
      log::Level::kWarning,
      "at the limit (max-connections %lu): user %lu holds %zu, more than its share among %zu "
      "users, so its own end first (%llu more times since). Raise max-connections and "
      "LimitNOFILE, or see what that user runs; allow-user keeps it out",
      static_cast<unsigned long>(capacity_.limit()), static_cast<unsigned long>(user), holds,
      capacity_.shares().users(), static_cast<unsigned long long>(*held_back));
}

}  // namespace lingerd
