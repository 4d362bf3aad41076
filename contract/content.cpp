// SPDX-License-Identifier: Apache-2.0
#include "contract/content.h"

#include <fcntl.h>

namespace lingerd {
namespace {

constexpr int kSeals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;

}  // namespace

bool is_sealed(int fd) {
  const int seals = fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & kSeals) == kSeals;
}

bool is_for_reading_only(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & (O_ACCMODE | O_PATH)) == O_RDONLY;
}

bool has_rest(const struct stat& file, std::uint64_t offset, std::uint64_t length) {
  if (!S_ISREG(file.st_mode) || file.st_size < 0) return false;
  const auto size = static_cast<std::uint64_t>(file.st_size);
  return offset <= size && length <= size - offset;
}

bool seal(int memfd) {
  return fcntl(memfd, F_ADD_SEALS, kSeals | F_SEAL_SEAL) == 0 || is_sealed(memfd);
}

}  // namespace lingerd
