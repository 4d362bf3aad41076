// SPDX-License-Identifier: Apache-2.0
#include "lingerctl/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <ios>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string_view>

namespace lingerd {
namespace {

struct Mount {
  std::string device;  // major:minor
  std::string point;
  std::string source;
};

// proc(5): spaces and the like are octal in mountinfo.
std::string unescaped(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::vector<Mount> mounts() {
  std::vector<Mount> found;
  std::ifstream table("/proc/self/mountinfo");
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    std::string id;
    std::string parent;
    std::string root;
    Mount mount;
    words >> id >> parent >> mount.device >> root >> mount.point;
    std::string word;
    while (words >> word && word != "-") {
    }
    words >> word >> mount.source;
    mount.point = unescaped(mount.point);
    mount.source = unescaped(mount.source);
    found.push_back(mount);
  }
  return found;
}

bool is_under(std::string_view path, std::string_view point) {
  return point == "/" || (path.substr(0, point.size()) == point &&
                          (path.size() == point.size() || path[point.size()] == '/'));
}

// By device; where a file system has devices of its own for its parts (btrfs), by name.
std::string file_system_of(const std::string& path, dev_t device,
                           const std::vector<Mount>& mounts) {
  const std::string number = std::to_string(major(device)) + ":" + std::to_string(minor(device));
  const Mount* best = nullptr;
  for (const bool by_device : {true, false}) {
    for (const Mount& mount : mounts) {
      if ((by_device && mount.device != number) || (!by_device && !is_under(path, mount.point))) {
        continue;
      }
      const bool nearer = best == nullptr ||
                          (is_under(path, mount.point) && mount.point.size() >= best->point.size());
      if (nearer) best = &mount;
    }
    if (best != nullptr) return best->point + " (" + best->source + ")";
  }
  return "device " + number + ", not mounted here";
}

// What lingerd writes to (its stats page) is its own; what it is given is open for reading only.
bool is_for_reading(const std::string& process, const char* name) {
  std::ifstream info(process + "/fdinfo/" + name);
  for (std::string key; info >> key;) {
    unsigned flags = 0;
    if (key == "flags:" && info >> std::oct >> flags) return (flags & O_ACCMODE) == O_RDONLY;
  }
  return false;
}

std::string target_of(const std::string& link) {
  std::array<char, 4096> target{};
  const ssize_t length = readlink(link.c_str(), target.data(), target.size());
  return length > 0 ? std::string(target.data(), static_cast<std::size_t>(length)) : "";
}

}  // namespace

std::vector<OpenFile> files_under_delivery(long pid) {
  const std::string process = "/proc/" + std::to_string(pid);
  const std::string directory = process + "/fd";
  const std::unique_ptr<DIR, int (*)(DIR*)> open(opendir(directory.c_str()), closedir);
  if (!open) {
    const std::string reason = std::strerror(errno);
    throw std::runtime_error("files: can't look into " + directory + " (" + reason +
                             "): run it as root, or as lingerd's user, where lingerd runs");
  }
  const std::vector<Mount> all = mounts();
  struct stat proc {};  // lingerd keeps its table of mounts open: that is nobody's response
  if (stat(process.c_str(), &proc) != 0) proc.st_dev = 0;
  std::vector<OpenFile> found;
  while (const dirent* entry = readdir(open.get())) {
    const std::string link = directory + "/" + entry->d_name;
    struct stat info {};
    if (stat(link.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    if (info.st_dev == proc.st_dev) continue;
    const std::string path = target_of(link);
    if (path.rfind("/memfd:", 0) == 0 || !is_for_reading(process, entry->d_name)) continue;
    found.push_back({path, file_system_of(path, info.st_dev, all)});
  }
  return found;
}

std::string words_on_files(const std::vector<OpenFile>& files, long pid) {
  if (files.empty()) return "No delivery holds a file.\n";
  std::map<std::string, std::map<std::string, int>> by_file_system;
  for (const OpenFile& file : files) ++by_file_system[file.file_system][file.path];
  std::string text;
  for (const auto& [file_system, paths] : by_file_system) {
    int deliveries = 0;
    for (const auto& [path, count] : paths) deliveries += count;
    text += file_system + ": " + std::to_string(deliveries) +
            (deliveries == 1 ? " delivery\n" : " deliveries\n");
    for (const auto& [path, count] : paths)
      text += "  " + std::to_string(count) + "  " + path + "\n";
  }
  text +=
      "\nA file system can't be unmounted before its deliveries are over. Each ends when its "
      "client\n"
      "has everything, or has taken nothing for LingerOffloadTimeout. To end all that lingerd "
      "does:\n"
      "systemctl stop lingerd (waits for at most --max-time), or kill -KILL " +
      std::to_string(pid) +
      " (at once); one client's\n"
      "connections: ss -K dst ADDRESS. With LingerOffloadFiles Off in httpd's configuration no\n"
      "further delivery holds a file.\n";
  return text;
}

}  // namespace lingerd
