// SPDX-License-Identifier: Apache-2.0
// The stats page's file, lingerd's side: made, mapped, locked, removed.
#pragma once

#include <optional>
#include <string>

#include "lingerd/stats_page.h"
#include "lingerd/unique_fd.h"

namespace lingerd {

class StatsFile {
 public:
  // Makes `path` anew beside an earlier one and renames it there, so that a reader sees a whole
  // page or none; readable for everybody, writable for this process's user alone. Without a file (a
  // full disk, a read-only directory) the page is private memory and `problem()` says why.
  // `started_ns`: when the counters began.
  StatsFile(std::string path, std::uint64_t started_ns);
  ~StatsFile();  // removes the file, if it is still this one
  StatsFile(const StatsFile&) = delete;
  StatsFile& operator=(const StatsFile&) = delete;

  [[nodiscard]] const std::string& problem() const { return problem_; }
  // Leaves the file in place at the end: the next lingerd puts its own there.
  void leave() { fd_.reset(); }
  // Whether the file at the path is this page; true as well if there never was one.
  [[nodiscard]] bool is_there() const;
  void publish(const StatsUpdate& update) { writer_->publish(update); }

 private:
  void* map_file();
  std::string path_;
  std::string problem_;
  UniqueFd fd_;
  StatsPage* page_ = nullptr;
  std::optional<StatsWriter> writer_;
};

}  // namespace lingerd
