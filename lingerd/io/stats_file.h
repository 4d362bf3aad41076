// SPDX-License-Identifier: Apache-2.0
// The stats page's file, lingerd's side: made, mapped, locked, removed.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/unique_fd.h"
#include "contract/stats_page.h"

namespace lingerd {

class StatsFile {
 public:
  // Makes the page beside `path`: readable for everybody, writable for this process's user alone.
  // Without a file (a full disk, a read-only directory) it is private memory and `problem()` says
  // why. A page of this user's that is in a directory where it may make no other is
  // written in place. `started_ns`: when the counters began. The last ten minutes of an earlier
  // page go on. `owner`: the user that this process is about to become: httpd takes the page's
  // owner for lingerd's user.
  StatsFile(std::string path, std::uint64_t started_ns, std::uint64_t now_ns,
            std::optional<uid_t> owner);
  ~StatsFile();  // removes the file, if it is still this one
  StatsFile(const StatsFile&) = delete;
  StatsFile& operator=(const StatsFile&) = delete;

  [[nodiscard]] const std::string& problem() const { return problem_; }
  // Writes it for the first time and renames it to `path`, over an earlier one: a reader sees the
  // old page or the new one, and never one without its numbers.
  void appear(const StatsUpdate& update);
  // Leaves the file in place at the end: the next lingerd puts its own there.
  void leave() { fd_.reset(); }
  // Whether the file at the path is this page; true as well if there never was one.
  [[nodiscard]] bool is_there() const;
  void publish(const StatsUpdate& update) { writer_->publish(update); }

 private:
  void* map_file(std::optional<uid_t> owner);
  void* map_earlier();
  void* lock_and_map();
  [[nodiscard]] std::string fresh_path() const { return path_ + ".new"; }
  [[nodiscard]] bool is_at(const std::string& path) const;
  std::string path_;
  std::string problem_;
  UniqueFd fd_;
  bool in_place_ = false;
  StatsPage* page_ = nullptr;
  std::optional<StatsWriter> writer_;
};

}  // namespace lingerd
