// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/stats_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <utility>

namespace lingerd {

namespace {

// The last ten minutes of the lingerd before this one: to a reader of the charts
// they are the same ten minutes. Zeros if there is no page, or one that isn't of this program and
// this boot.
Ring earlier_ring(const std::string& path, std::uint64_t now_ns) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW));
  StatsPage page;
  if (!fd || read(fd.get(), &page, sizeof page) != sizeof page || page.magic != kStatsMagic ||
      page.version != kStatsVersion || page.size != sizeof page || page.heartbeat_ns > now_ns) {
    return {};
  }
  return page.ring;
}

}  // namespace

StatsFile::StatsFile(std::string path, std::uint64_t started_ns, std::uint64_t now_ns,
                     std::optional<uid_t> owner)
    : path_(std::move(path)) {
  const Ring ring = earlier_ring(path_, now_ns);
  void* page = map_file(owner);
  if (page == MAP_FAILED && (errno == EACCES || errno == EPERM)) page = map_earlier();
  if (page == MAP_FAILED) {
    problem_ = path_ + ": " + std::strerror(errno);
    fd_.reset();
    page = mmap(nullptr, sizeof(StatsPage), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0);
    if (page == MAP_FAILED) throw std::system_error(errno, std::system_category(), "mmap");
  }
  page_ = static_cast<StatsPage*>(page);
  page_->ring = ring;
  writer_.emplace(*page_, started_ns, static_cast<std::uint64_t>(getpid()));
}

// MAP_FAILED with errno if any step fails.
void* StatsFile::map_file(std::optional<uid_t> owner) {
  const std::string fresh = fresh_path();
  unlink(fresh.c_str());
  // Nobody else's until it is locked: a reader could take a read lock first, and there would be no
  // write lock, and no page.
  fd_.reset(open(fresh.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd_) return MAP_FAILED;
  // Space, not only size: writing to a page that a full disk can't back is SIGBUS.
  if (const int error = posix_fallocate(fd_.get(), 0, sizeof(StatsPage)); error != 0) {
    unlink(fresh.c_str());
    errno = error;
    return MAP_FAILED;
  }
  void* page = MAP_FAILED;
  if (!owner || fchown(fd_.get(), *owner, static_cast<gid_t>(-1)) == 0) {
    fchmod(fd_.get(), 0644);  // whatever the umask is
    page = lock_and_map();
  }
  if (page != MAP_FAILED) return page;
  const int error = errno;
  unlink(fresh.c_str());
  errno = error;
  return MAP_FAILED;
}

// Readers ask whether this lock is held (F_OFD_GETLK): the kernel drops it with the process,
// however that ends, so it tells a stopped lingerd from a dead one.
void* StatsFile::lock_and_map() {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (fcntl(fd_.get(), F_OFD_SETLK, &lock) != 0) return MAP_FAILED;
  void* page = mmap(nullptr, sizeof(StatsPage), PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  // A mapping keeps the lock as a descriptor does: a child must not, whatever becomes of this
  // process.
  if (page != MAP_FAILED) madvise(page, sizeof(StatsPage), MADV_DONTFORK);
  return page;
}

// That of a predecessor which was root when it made the page, and gave it to the user that this
// process is. MAP_FAILED with EACCES if there is none.
void* StatsFile::map_earlier() {
  fd_.reset(open(path_.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat file {};
  const bool ours = fd_ && fstat(fd_.get(), &file) == 0 && S_ISREG(file.st_mode) &&
                    file.st_uid == geteuid() && file.st_size == sizeof(StatsPage);
  void* page = ours ? lock_and_map() : MAP_FAILED;
  in_place_ = page != MAP_FAILED;
  errno = EACCES;
  return page;
}

void StatsFile::appear(const StatsUpdate& update) {
  publish(update);
  if (!fd_ || in_place_ || rename(fresh_path().c_str(), path_.c_str()) == 0) return;
  problem_ = path_ + ": " + std::strerror(errno);
  unlink(fresh_path().c_str());
  fd_.reset();
}

bool StatsFile::is_there() const {
  return !fd_ || is_at(path_);
}

bool StatsFile::is_at(const std::string& path) const {
  struct stat ours {};
  struct stat there {};
  return fstat(fd_.get(), &ours) == 0 && stat(path.c_str(), &there) == 0 &&
         ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

StatsFile::~StatsFile() {
  munmap(page_, sizeof(StatsPage));
  if (!fd_) return;
  if (is_there()) {
    unlink(path_.c_str());
  } else if (is_at(fresh_path())) {
    unlink(fresh_path().c_str());
  }
}

}  // namespace lingerd
