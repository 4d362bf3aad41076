// SPDX-License-Identifier: Apache-2.0
#include "lingerd/stats_file.h"

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

StatsFile::StatsFile(std::string path, std::uint64_t started_ns) : path_(std::move(path)) {
  void* page = map_file();
  if (page == MAP_FAILED) {
    problem_ = path_ + ": " + std::strerror(errno);
    fd_.reset();
    page = mmap(nullptr, sizeof(StatsPage), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0);
    if (page == MAP_FAILED) throw std::system_error(errno, std::system_category(), "mmap");
  }
  page_ = static_cast<StatsPage*>(page);
  writer_.emplace(*page_, started_ns, static_cast<std::uint64_t>(getpid()));
}

// MAP_FAILED with errno if any step fails.
void* StatsFile::map_file() {
  const std::string fresh = path_ + ".new";
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
  // Readers ask whether this lock is held (F_OFD_GETLK): the kernel drops it with the process,
  // however that ends, so it tells a stopped lingerd from a dead one.
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  void* page = MAP_FAILED;
  if (fcntl(fd_.get(), F_OFD_SETLK, &lock) == 0) {
    fchmod(fd_.get(), 0644);  // whatever the umask is
    page = mmap(nullptr, sizeof(StatsPage), PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  }
  if (page != MAP_FAILED && rename(fresh.c_str(), path_.c_str()) == 0) return page;
  const int error = errno;
  if (page != MAP_FAILED) munmap(page, sizeof(StatsPage));
  unlink(fresh.c_str());
  errno = error;
  return MAP_FAILED;
}

bool StatsFile::is_there() const {
  struct stat ours {};
  struct stat there {};
  if (!fd_) return true;
  return fstat(fd_.get(), &ours) == 0 && stat(path_.c_str(), &there) == 0 &&
         ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

StatsFile::~StatsFile() {
  munmap(page_, sizeof(StatsPage));
  if (fd_ && is_there()) unlink(path_.c_str());
}

}  // namespace lingerd
