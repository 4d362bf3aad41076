// SPDX-License-Identifier: Apache-2.0
// How both modules' directives are declared, and the values that both have.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_lib.h>
#include <apr_strings.h>
#include <http_config.h>

#include <cerrno>
#include <cstdint>
#include <string_view>

namespace lingerd {

using Take1 = const char* (*)(cmd_parms*, void*, const char*);

inline command_rec directive(const char* name, Take1 setter, const char* help,
                             cmd_how takes = TAKE1) {
  // In C++ httpd declares a setter of any signature as one without arguments; the detour by void()
  // is what compilers take for a deliberate cast.
  const auto func = reinterpret_cast<cmd_func>(reinterpret_cast<void (*)()>(setter));
  return {name, func, nullptr, RSRC_CONF, takes, help};
}

// Each returns what is wrong with the value, or a null pointer.

inline const char* parse_switch(cmd_parms* cmd, const char* value, bool& on) {
  on = strcasecmp(value, "On") == 0;
  if (on || strcasecmp(value, "Off") == 0) return nullptr;
  return apr_psprintf(cmd->pool, "%s: '%s' is neither On nor Off", cmd->cmd->name, value);
}

// How long a worker waits for the next request itself: milliseconds, with or without their unit.
inline const char* parse_wait(cmd_parms* cmd, const char* value, std::uint32_t& ms) {
  constexpr apr_int64_t kMost = 1'000;
  char* end = nullptr;
  errno = 0;
  const apr_int64_t number = apr_isdigit(*value) ? apr_strtoi64(value, &end, 10) : -1;
  const std::string_view unit = end != nullptr ? end : "";
  if (errno != 0 || number < 0 || number > kMost || !(unit.empty() || unit == "ms")) {
    return apr_psprintf(cmd->pool,
                        "%s: '%s' is not a number of milliseconds from 0 to %d (the unit ms may "
                        "follow)",
                        cmd->cmd->name, value, static_cast<int>(kMost));
  }
  ms = static_cast<std::uint32_t>(number);
  return nullptr;
}

}  // namespace lingerd
