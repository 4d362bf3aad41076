// SPDX-License-Identifier: Apache-2.0
#include "lingerd/start/listener.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <optional>
#include <utility>

#include "base/startup_error.h"
#include "base/unix_socket.h"

namespace lingerd {
namespace {

// Each httpd child connects once, all at the same time after a restart of httpd. The kernel cuts
// this down to net.core.somaxconn.
constexpr int kBacklog = 4096;

std::string reason() {
  return std::strerror(errno);
}

ExitStatus status_of(int error) {
  if (error == EACCES || error == EPERM || error == EROFS) return ExitStatus::kNoPrivilege;
  if (error == ENOENT || error == ENOTDIR) return ExitStatus::kNotConfigured;
  return ExitStatus::kFailure;
}

[[noreturn]] void fail(const std::string& path, const std::string& step) {
  const int error = errno;
  std::string text = "socket " + path + ": " + step + ": " + std::strerror(error);
  if (status_of(error) == ExitStatus::kNoPrivilege) {
    text +=
        "; start lingerd as root (with --user it doesn't stay root), or choose another --socket";
  }
  throw StartupError(status_of(error), text);
}

[[noreturn]] void refuse(ExitStatus status, const std::string& path, const std::string& why) {
  throw StartupError(status, "socket " + path + ": " + why);
}

std::string directory_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Between finding that nobody answers at the path and listening there, another lingerd could do the
// same, and the later one would pull the file away from under the earlier. So a lingerd in between
// holds a lock on the directory: no file of its own to leave behind, and nothing to hold later,
// because a lingerd that listens answers for itself.
UniqueFd lock_directory(const std::string& path) {
  const std::string directory = directory_of(path);
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd && (errno == ENOENT || errno == ENOTDIR)) {
    refuse(ExitStatus::kNotConfigured, path,
           "there is no directory " + directory +
               "; make it (systemd does, with RuntimeDirectory= or tmpfiles.d), or choose another "
               "--socket");
  }
  if (!fd) fail(path, "can't open " + directory);
  constexpr int kAttempts = 500;  // of 10 ms
  for (int i = 0; ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0; ++i) {
    if (errno != EWOULDBLOCK && errno != EINTR) fail(path, "can't lock " + directory);
    if (i == kAttempts) {
      refuse(ExitStatus::kFailure, path,
             "another process has held a lock on " + directory + " for 5 seconds");
    }
    const timespec pause{0, 10'000'000};
    nanosleep(&pause, nullptr);
  }
  return fd;
}

// A lingerd that answers a connection is alive, even stopped or with a full backlog; a file that
// refuses it is what a killed lingerd left behind.
void remove_left_over(const std::string& path) {
  struct stat there {};
  if (::lstat(path.c_str(), &there) != 0) {
    if (errno == ENOENT) return;
    fail(path, "can't look at it");
  }
  if (!S_ISSOCK(there.st_mode)) {
    refuse(ExitStatus::kFailure, path, "something is there that is not a socket: not touching it");
  }
  const UniqueFd probe = unix_socket(SOCK_SEQPACKET);
  if (!probe) fail(path, "can't make a socket");
  const int refused = connect_to(probe, unix_address(path));
  if (refused == 0 || refused == EAGAIN) {
    refuse(ExitStatus::kFailure, path,
           "another lingerd is running there; stop it first, or choose another --socket");
  }
  if (errno == EPROTOTYPE) {
    refuse(ExitStatus::kFailure, path,
           "a socket of another program is there; choose another --socket");
  }
  if (errno != ECONNREFUSED) fail(path, "can't find out who listens there");
  if (::unlink(path.c_str()) != 0) fail(path, "can't remove what a killed lingerd left behind");
}

// Owner and group before anybody can connect. As root in a directory of another user, who can put
// anything at any path in it: so by a descriptor, and only if that is a socket which no other user
// than this process's can have made there.
void set_owner(const std::string& path, const Identities& ids) {
  if (!ids.user && !ids.socket_group) return;
  const UniqueFd file(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat there {};
  if (!file || ::fstat(file.get(), &there) != 0) fail(path, "can't look at it");
  if (!S_ISSOCK(there.st_mode) || there.st_uid != ::geteuid() || there.st_nlink != 1) {
    refuse(ExitStatus::kFailure, path, "somebody has put something else there: not touching it");
  }
  const uid_t owner = ids.user ? ids.user->uid : static_cast<uid_t>(-1);
  const gid_t group = ids.socket_group.value_or(static_cast<gid_t>(-1));
  if (::fchownat(file.get(), "", owner, group, AT_EMPTY_PATH) != 0) {
    fail(path, "can't give it to the user and group that user and socket-group name");
  }
}

int option_of(int fd, int option) {
  int value = -1;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

}  // namespace

Listener Listener::make(const Options& options, const Identities& ids, Inheritance& inheritance) {
  if (!inheritance.listener) return bind(options, ids);
  return adopt(std::move(inheritance.listener), !inheritance.listener_is_ours);
}

Listener Listener::adopt(UniqueFd socket, bool from_systemd) {
  const int fd = socket.get();
  if (option_of(fd, SO_DOMAIN) != AF_UNIX || option_of(fd, SO_TYPE) != SOCK_SEQPACKET ||
      option_of(fd, SO_ACCEPTCONN) != 1) {
    throw StartupError(ExitStatus::kNotConfigured,
                       "what systemd passed isn't a listening Unix SOCK_SEQPACKET socket; the "
                       "unit must have ListenSequentialPacket=/run/lingerd/lingerd.sock");
  }
  const std::optional<std::string> path = path_of(fd);
  if (!path) {
    throw StartupError(ExitStatus::kFailure, "systemd's socket has no name: " + reason());
  }
  if (!path->starts_with('/')) {
    throw StartupError(ExitStatus::kNotConfigured,
                       "systemd's socket has no path in the file system, but the stats page must "
                       "go beside it; set ListenSequentialPacket= to an absolute path");
  }
  // accept4(2) must not wait for a connection that is gone again.
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  return {std::move(socket), *path, from_systemd};
}

Listener Listener::bind(const Options& options, const Identities& ids) {
  const std::string& path = options.socket;
  const UniqueFd lock = lock_directory(path);
  remove_left_over(path);

  UniqueFd fd = unix_socket(SOCK_SEQPACKET);
  if (!fd) fail(path, "can't make a socket");
  const UnixAddress address = unix_address(path);
  // Its mode from the first moment: chmod(2) would follow a link that somebody puts there
  // meanwhile.
  const mode_t mask = ::umask(~options.socket_mode & 0777);
  const int bound = ::bind(fd.get(), address.get(), address.size);
  const int error = errno;
  ::umask(mask);
  errno = error;
  if (bound != 0) fail(path, "can't bind");

  Listener listener(std::move(fd), path, false);
  set_owner(path, ids);
  if (::listen(listener.fd_.get(), kBacklog) != 0) fail(path, "can't listen");
  return listener;
}

Listener::Listener(UniqueFd fd, std::string path, bool from_systemd)
    : fd_(std::move(fd)), path_(std::move(path)), from_systemd_(from_systemd) {
  struct stat file {};
  if (from_systemd_ || ::lstat(path_.c_str(), &file) != 0) return;
  bound_here_ = true;
  device_ = file.st_dev;
  inode_ = file.st_ino;
}

Listener::Listener(Listener&& other) noexcept
    : fd_(std::move(other.fd_)),
      path_(std::move(other.path_)),
      from_systemd_(other.from_systemd_),
      bound_here_(std::exchange(other.bound_here_, false)),
      device_(other.device_),
      inode_(other.inode_) {}

// As another user than root this may fail in root's directory: then the next lingerd finds a
// left-over and replaces it.
void Listener::remove_file() {
  struct stat there {};
  if (!std::exchange(bound_here_, false) || ::lstat(path_.c_str(), &there) != 0) return;
  if (there.st_dev == device_ && there.st_ino == inode_) ::unlink(path_.c_str());
}

}  // namespace lingerd
