// SPDX-License-Identifier: Apache-2.0
// Users and groups, by name or number, and becoming one. Everything here throws StartupError.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "lingerd/start/options.h"

namespace lingerd {

struct User {
  uid_t uid = 0;
  std::optional<gid_t> gid;  // the primary group; none: a number that has no name
  std::string name;          // empty: likewise
};

// The names of the options, looked up.
struct Identities {
  std::optional<User> user;           // --user
  std::optional<gid_t> socket_group;  // --socket-group
  std::vector<uid_t> allowed_uids;    // --allow-user
};
[[nodiscard]] Identities look_up(const Options& options);

// For good: all groups, then the user. Nothing to do if this is that user already. A user who has
// no name has no group to take either: refused.
void become(const User& user);

}  // namespace lingerd
