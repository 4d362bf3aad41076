// SPDX-License-Identifier: Apache-2.0
// Whatever stands in lingerd.conf: options within their ranges, or a problem in words.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/unix_limits.h"
#include "lingerd/start/options.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lingerd;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const ConfigText config = parse_config(text, "/c");
  if (!config.problem.empty()) return 0;
  const OptionsResult result = combine(config.assignments, {});
  if (!result.problem.empty()) return 0;
  const Options& options = result.options;
  if (options.max_time < 1 || options.max_time > kMaxMaxTime) std::abort();
  if (options.socket_mode > 0777) std::abort();
  if (options.socket.empty() || options.socket.size() > kMaxSocketPath) std::abort();
  if (options.max_connections && *options.max_connections == 0) std::abort();
  return 0;
}
