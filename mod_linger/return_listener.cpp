// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/return_listener.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace lingerd {
namespace {

constexpr char kName[] = "return.sock";
constexpr int kBacklog = 511;  // as httpd's ListenBacklog

bool fails(const std::string& what, std::string& problem) {
  problem = what + ": " + std::strerror(errno);
  return false;
}

// Paths may be longer than the name of a Unix socket: by way of the directory's descriptor.
bool bind_in(int socket, int directory, const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() < sizeof address.sun_path) {
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  } else {
    std::snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", directory,
                  kName);
  }
  return bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace

bool make_return_listener(const std::string& directory, ReturnListener& out, std::string& problem) {
  remove_return_listener(directory);  // of a process with the same id that was killed
  if (mkdir(directory.c_str(), 0700) != 0) return fails(directory, problem);
  const std::string path = directory + "/" + kName;
  const UniqueFd at(open(directory.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  ReturnListener made;
  made.socket.reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // Whoever has a descriptor of the name may connect; nobody else gets past the directory. Before
  // it listens nobody can at all.
  const bool good = at && made.socket && bind_in(made.socket.get(), at.get(), path) &&
                    fchmodat(at.get(), kName, 0666, 0) == 0 &&
                    listen(made.socket.get(), kBacklog) == 0;
  if (good) made.name.reset(openat(at.get(), kName, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!good || !made.name) {
    fails(path, problem);
    remove_return_listener(directory);
    return false;
  }
  out.socket = std::move(made.socket);
  out.name = std::move(made.name);
  return true;
}

void remove_return_listener(const std::string& directory) {
  unlink((directory + "/" + kName).c_str());
  rmdir(directory.c_str());
}

}  // namespace lingerd
