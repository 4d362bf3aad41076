// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/listener_socket.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/unix_limits.h"
#include "base/unix_socket.h"

namespace lingerd {
namespace {

constexpr char kName[] = "return.sock";
constexpr std::string_view kPrefix = "linger.";  // of the directory; the process id follows
constexpr int kBacklog = 511;                    // as httpd's ListenBacklog

UniqueFd open_directory(const std::string& path) {
  return UniqueFd(open(path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

// Paths may be longer than the name of a Unix socket: by way of the directory's descriptor.
bool bind_in(int socket, int directory, const std::string& path) {
  const UnixAddress address =
      path.size() <= kMaxSocketPath ? unix_address(path) : unix_address_by(directory, kName);
  return bind(socket, address.get(), address.size) == 0;
}

std::optional<pid_t> process_of(std::string_view name) {
  if (name.substr(0, kPrefix.size()) != kPrefix) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  pid_t pid = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
  if (error != std::errc() || end != name.data() + name.size() || pid <= 0) return std::nullopt;
  return pid;
}

// Whether nobody has the listener of this directory any more. The kernel looks for the socket
// behind the name before it compares types: a datagram socket gets EPROTOTYPE from one that is
// there, also from one of another process-id namespace, where asking for the process would be of no
// use.
bool is_abandoned(int directory, pid_t pid) {
  const UniqueFd probe = unix_socket(SOCK_DGRAM);
  if (!probe) return false;
  const int error = connect_to(probe, unix_address_by(directory, kName));
  if (error == ECONNREFUSED) return true;
  // Killed before it made the socket; or it is just about to.
  return error == ENOENT && kill(pid, 0) != 0 && errno == ESRCH;
}

void sweep(const std::string& runtime_directory) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir(runtime_directory.c_str()), closedir);
  if (!entries) return;
  while (const dirent* entry = readdir(entries.get())) {
    const std::optional<pid_t> pid = process_of(entry->d_name);
    if (!pid) continue;
    const std::string path = runtime_directory + "/" + entry->d_name;
    const UniqueFd directory = open_directory(path);
    struct stat status {};
    if (directory && fstat(directory.get(), &status) == 0 && status.st_uid == geteuid() &&
        is_abandoned(directory.get(), *pid)) {
      remove_return_listener(path.c_str());
    }
  }
}

bool fails(const std::string& path, const std::string& runtime_directory, std::string& problem) {
  const int error = errno;
  problem = path + ": " + std::strerror(error) + ". ";
  if (error == ENOENT || error == ENOTDIR) {
    problem += "httpd's runtime directory isn't there: make it (mkdir -p " + runtime_directory +
               "), or name another with DefaultRuntimeDir, and restart httpd";
  } else if (error == EEXIST) {
    problem += "Another httpd uses it, in a container perhaps: give each a DefaultRuntimeDir";
  } else {
    problem += "The user that starts httpd must be able to make it: see the permissions of " +
               runtime_directory + ", or name another with DefaultRuntimeDir, and restart httpd";
  }
  return false;
}

}  // namespace

bool make_return_listener(const std::string& runtime_directory, pid_t pid, ReturnListener& out,
                          std::string& problem) {
  sweep(runtime_directory);
  ReturnListener made;
  made.directory = runtime_directory + "/" + std::string(kPrefix) + std::to_string(pid);
  if (mkdir(made.directory.c_str(), 0700) != 0) {
    return fails(made.directory, runtime_directory, problem);
  }
  const std::string path = made.directory + "/" + kName;
  const UniqueFd at = open_directory(made.directory);
  made.socket.reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // A process with a descriptor of the name may connect; no other gets past the directory. Before
  // it listens none can at all.
  const bool good = at && made.socket && bind_in(made.socket.get(), at.get(), path) &&
                    fchmodat(at.get(), kName, 0666, 0) == 0 &&
                    listen(made.socket.get(), kBacklog) == 0;
  if (good) made.name.reset(openat(at.get(), kName, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!good || !made.name) {
    fails(path, runtime_directory, problem);
    remove_return_listener(made.directory.c_str());
    return false;
  }
  out = std::move(made);
  return true;
}

void remove_return_listener(const char* directory) noexcept {
  const UniqueFd at(open(directory, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (at) unlinkat(at.get(), kName, 0);
  rmdir(directory);
}

}  // namespace lingerd
