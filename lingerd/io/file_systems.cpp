// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/file_systems.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <optional>

#include "base/clock.h"

namespace lingerd {
namespace {

constexpr std::array<std::string_view, 10> kDisks = {
    "ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "zfs", "f2fs", "squashfs", "erofs"};

// Without any field and AT_STATX_DONT_SYNC, FUSE and NFS answer from what they have, which is the
// device's number at least.
std::optional<std::uint64_t> device_of(int directory, const char* path, int flags) {
  struct statx file {};
  if (statx(directory, path, flags | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &file) != 0) {
    return std::nullopt;
  }
  return makedev(file.stx_dev_major, file.stx_dev_minor);
}

FileSystems::Kind kind_of_type(std::string_view type) {
  if (type == "tmpfs" || type == "ramfs") return FileSystems::Kind::kMemory;
  return std::ranges::find(kDisks, type) != kDisks.end() ? FileSystems::Kind::kDisk
                                                         : FileSystems::Kind::kUnknown;
}

std::string_view next(std::string_view& text, char end) {
  const auto at = text.find(end);
  const std::string_view field = text.substr(0, at);
  text.remove_prefix(at == text.npos ? text.size() : at + 1);
  return field;
}

// Spaces and the like are written as \040.
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(&text[i + 1], &text[i + 1] + 3, code, 8).ptr == &text[i + 1] + 3) {
      out += static_cast<char>(code);
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::optional<std::uint64_t> parse_device(std::string_view text) {
  unsigned major = 0;
  unsigned minor = 0;
  const std::string_view first = next(text, ':');
  const char* end = first.data() + first.size();
  if (std::from_chars(first.data(), end, major).ptr != end || first.empty()) return std::nullopt;
  end = text.data() + text.size();
  if (std::from_chars(text.data(), end, minor).ptr != end || text.empty()) return std::nullopt;
  return makedev(major, minor);
}

bool lies_below(std::string_view path, std::string_view directory) {
  if (directory == "/") return true;
  return path.starts_with(directory) &&
         (path.size() == directory.size() || path[directory.size()] == '/');
}

// Whether the way there leads through nothing that might not answer.
bool may_be_remote(const Mount& mount) {
  return kind_of_type(mount.type) == FileSystems::Kind::kUnknown && mount.type != "overlay" &&
         mount.type != "proc" && mount.type != "sysfs" && mount.type != "devtmpfs";
}

bool is_safe_to_walk(std::string_view path, const std::vector<Mount>& all) {
  return std::ranges::none_of(all, [&](const Mount& mount) {
    return may_be_remote(mount) && lies_below(path, mount.point);
  });
}

std::string read_all(int fd) {
  std::string text;
  std::array<char, 65536> part{};
  off_t at = 0;
  for (;;) {
    const ssize_t n = pread(fd, part.data(), part.size(), at);
    if (n <= 0) return text;
    text.append(part.data(), static_cast<std::size_t>(n));
    at += n;
  }
}

}  // namespace

// 36 35 98:0 /root /point rw,noatime master:1 - type source rw,options
std::vector<Mount> parse_mounts(std::string_view mountinfo) {
  std::vector<Mount> mounts;
  while (!mountinfo.empty()) {
    std::string_view line = next(mountinfo, '\n');
    next(line, ' ');
    next(line, ' ');
    const std::optional<std::uint64_t> device = parse_device(next(line, ' '));
    next(line, ' ');
    const std::string_view point = next(line, ' ');
    const auto dash = line.find(" - ");
    if (!device || dash == line.npos) continue;
    line.remove_prefix(dash + 3);
    const std::string_view type = next(line, ' ');
    next(line, ' ');
    mounts.push_back({*device, unescape(point), std::string(type), unescape(line)});
  }
  return mounts;
}

FileSystems& file_systems() {
  static FileSystems the_machines;
  return the_machines;
}

FileSystems::Kind FileSystems::lookup(std::uint64_t device) const {
  const auto found = kinds_.find(device);
  return found == kinds_.end() ? Kind::kUnknown : found->second;
}

FileSystems::Kind FileSystems::kind_of(int fd) {
  const std::optional<std::uint64_t> device = device_of(fd, "", AT_EMPTY_PATH);
  if (!device) return Kind::kUnknown;
  refresh();
  return lookup(*device);
}

std::optional<FileSystems::Place> FileSystems::socket_at(int path_fd) {
  refresh();
  return known_socket_at(path_fd);
}

std::optional<FileSystems::Place> FileSystems::known_socket_at(int path_fd) const {
  const std::optional<std::uint64_t> device = device_of(path_fd, "", AT_EMPTY_PATH);
  if (!device || remote_.contains(*device)) return std::nullopt;
  struct statx file {};
  if (statx(path_fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO | STATX_UID,
            &file) != 0 ||
      !S_ISSOCK(file.stx_mode)) {
    return std::nullopt;
  }
  const bool trusted = file.stx_uid == 0 || file.stx_uid == geteuid();
  if (!trusted && !seen_.contains(*device)) return std::nullopt;
  return Place{*device, file.stx_ino};
}

bool FileSystems::has_changed() const {
  pollfd changed{mountinfo_.get(), POLLPRI, 0};
  return !mountinfo_ || (poll(&changed, 1, 0) > 0 && (changed.revents & POLLERR) != 0);
}

// A number that is free again may be given to another file system: what is known holds only as long
// as nothing was mounted or unmounted. The kernel says so on this very file.
void FileSystems::refresh() {
  if (!has_changed() && !kinds_.empty()) return;
  kinds_.clear();
  seen_.clear();
  // A program that mounts and unmounts all the time costs half of the time at most: a pause is as
  // long as the look before it. Until the next one nothing is known.
  const std::uint64_t begin_ns = monotonic_ns();
  if (begin_ns < next_look_ns_) return;
  read_again();
  const std::uint64_t end_ns = monotonic_ns();
  next_look_ns_ = end_ns + (end_ns - begin_ns);
}

void FileSystems::read_again() {
  kinds_.clear();
  remote_.clear();
  seen_.clear();
  mountinfo_.reset(open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
  if (!mountinfo_) return;
  const std::vector<Mount> mounts = parse_mounts(read_all(mountinfo_.get()));
  for (const Mount& mount : mounts) {
    add(mount, mounts);
    seen_.insert(mount.device);
    if (may_be_remote(mount)) remote_.insert(mount.device);
  }
  // Their layers are among those.
  for (const Mount& mount : mounts) {
    if (mount.type == "overlay" && is_safe_to_walk(mount.point, mounts) &&
        layers_are_local(mount)) {
      kinds_.emplace(mount.device, Kind::kDisk);
    }
  }
  // The list comes in parts: a line may have moved from one that was to come into one that had.
  if (!has_changed()) return;
  kinds_.clear();
  seen_.clear();
}

void FileSystems::add(const Mount& mount, const std::vector<Mount>& all) {
  const Kind kind = kind_of_type(mount.type);
  if (kind == Kind::kUnknown) return;
  kinds_.emplace(mount.device, kind);
  // Each subvolume has a device number of its own, which isn't the one in this list. Those that
  // are mounted nowhere stay unknown.
  if (mount.type != "btrfs" || !is_safe_to_walk(mount.point, all)) return;
  if (const auto device = device_of(AT_FDCWD, mount.point.c_str(), 0)) {
    kinds_.emplace(*device, kind);
  }
}

// A file of an overlay is one of its layers', and one of those may well be FUSE's (images that are
// loaded as they are read). The layers' paths are those where it was mounted: in a container they
// lead nowhere, and its files travel as memory.
bool FileSystems::layers_are_local(const Mount& overlay) const {
  std::string_view options = overlay.options;
  bool any = false;
  while (!options.empty()) {
    std::string_view option = next(options, ',');
    const std::string_view name = next(option, '=');
    if (!name.starts_with("lowerdir") && name != "upperdir" && name != "datadir+") continue;
    while (!option.empty()) {
      const std::string path(next(option, ':'));
      if (path.empty()) continue;
      const auto device = path[0] == '/' ? device_of(AT_FDCWD, path.c_str(), 0) : std::nullopt;
      if (!device || lookup(*device) == Kind::kUnknown) return false;
      any = true;
    }
  }
  return any;
}

}  // namespace lingerd
