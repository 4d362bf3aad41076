// SPDX-License-Identifier: Apache-2.0
// `lingerctl files`: which files lingerd holds open because it delivers them, by file system: those
// can't be unmounted. Read from /proc, which only root and lingerd's user may do.
#pragma once

#include <string>
#include <vector>

namespace lingerd {

struct OpenFile {
  std::string path;
  std::string file_system;  // where it is mounted, and what
};

// Of process `pid`. Throws std::runtime_error with what is wrong and what to do.
[[nodiscard]] std::vector<OpenFile> files_under_delivery(long pid);

[[nodiscard]] std::string words_on_files(const std::vector<OpenFile>& files, long pid);

}  // namespace lingerd
