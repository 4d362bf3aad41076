// SPDX-License-Identifier: Apache-2.0
#include "lingerd/start/identity.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <system_error>

#include "base/startup_error.h"

namespace lingerd {
namespace {

std::optional<std::uint32_t> as_number(const std::string& text) {
  std::uint32_t number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  // The last number is what the kernel takes for "leave it as it is".
  if (error != std::errc{} || rest != end || number == UINT32_MAX) return std::nullopt;
  return number;
}

[[noreturn]] void refuse(const char* key, const std::string& name, const char* what,
                         const char* tool) {
  throw StartupError(ExitStatus::kBadArgument, std::string(key) + ": there is no " + what + " '" +
                                                   name + "'; 'getent " + tool + "' lists them");
}

// A name first: a user may be called 1000.
User find_user(const char* key, const std::string& name) {
  const passwd* entry = getpwnam(name.c_str());
  if (entry == nullptr) {
    const auto number = as_number(name);
    if (!number) refuse(key, name, "user", "passwd");
    entry = getpwuid(*number);
    if (entry == nullptr) return {*number, std::nullopt, {}};
  }
  return {entry->pw_uid, entry->pw_gid, entry->pw_name};
}

gid_t find_group(const char* key, const std::string& name) {
  if (const group* entry = getgrnam(name.c_str())) return entry->gr_gid;
  const auto number = as_number(name);
  if (!number) refuse(key, name, "group", "group");
  return *number;
}

// The group of that number belongs to somebody else, if there is one.
void require_group(const User& user) {
  if (user.gid || user.uid == geteuid()) return;
  throw StartupError(
      ExitStatus::kBadArgument,
      "user: " + std::to_string(user.uid) +
          " has no entry in passwd, so it isn't known which group lingerd should take; "
          "make the user (useradd), or start lingerd as that user");
}

void require(bool done, const User& user, const char* step) {
  if (done) return;
  const int error = errno;
  throw StartupError(ExitStatus::kNoPrivilege,
                     "user: can't become " +
                         (user.name.empty() ? std::to_string(user.uid) : user.name) + " (" + step +
                         ": " + std::strerror(error) + "); start lingerd as root, or as that user");
}

}  // namespace

Identities look_up(const Options& options) {
  Identities ids;
  if (!options.user.empty()) {
    ids.user = find_user("user", options.user);
    require_group(*ids.user);
  }
  if (!options.socket_group.empty()) {
    ids.socket_group = find_group("socket-group", options.socket_group);
  }
  for (const std::string& name : options.allow_users) {
    ids.allowed_uids.push_back(find_user("allow-user", name).uid);
  }
  return ids;
}

void become(const User& user) {
  if (getuid() == user.uid && geteuid() == user.uid) return;
  require_group(user);
  const gid_t group = user.gid.value_or(getegid());
  require(initgroups(user.name.c_str(), group) == 0, user, "initgroups");
  require(setresgid(group, group, group) == 0, user, "setresgid");
  require(setresuid(user.uid, user.uid, user.uid) == 0, user, "setresuid");
}

}  // namespace lingerd
