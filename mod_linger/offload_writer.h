// SPDX-License-Identifier: Apache-2.0
// Writes brigades to the client's socket in place of the core's filter: what the socket takes at
// once, and the rest into the connection's backlog.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "mod_linger/backlog.h"

namespace lingerd {

// The worker waits for the client, as it would without offload, until no more than `at_most_left`
// of the backlog is left; for at most the server's Timeout without progress. Else the connection is
// marked as broken.
[[nodiscard]] apr_status_t wait_until_left(conn_rec* connection, Backlog& backlog,
                                           std::uint64_t at_most_left);

class OffloadWriter {
 public:
  // `most`: bytes that the backlog may hold in memory. `segment_open` outlives the writer, which
  // lives for one brigade: whether the kernel holds back a part of a segment.
  OffloadWriter(conn_rec* connection, Backlog& backlog, std::uint64_t most, bool& segment_open);

  // APR_SUCCESS, or why the connection is over. Where lingerd has no room for a backlog, or none
  // can be had, it hands back: what is left in the brigade is the core filter's to write, which may
  // do so without a worker (event).
  [[nodiscard]] apr_status_t write(apr_bucket_brigade* brigade);
  [[nodiscard]] bool handed_back() const { return handed_back_; }

 private:
  static constexpr std::size_t kMostPieces = 64;

  apr_status_t write_bucket(apr_bucket* bucket);
  apr_status_t take(apr_bucket* bucket);
  apr_status_t write_file(apr_bucket* bucket, bool& done);
  apr_status_t write_pieces(apr_bucket* until, bool more);
  apr_status_t send_pieces(std::span<iovec>& rest, bool more, std::uint64_t& sent);
  apr_status_t keep(std::span<iovec> pieces);
  apr_status_t keep_behind_file();
  apr_status_t send_waiting(iovec part);
  apr_status_t hand_back(std::uint64_t sent);
  [[nodiscard]] apr_status_t broken(apr_status_t why) const;
  void drop_until(const apr_bucket* until);
  void end_segment();

  conn_rec* connection_;
  Backlog& backlog_;
  std::uint64_t most_;
  bool& segment_open_;
  int fd_;
  bool handed_back_ = false;
  apr_bucket_brigade* brigade_ = nullptr;
  // They point into the buckets before the current one, which live until the bytes are written.
  std::array<iovec, kMostPieces> pieces_{};
  std::size_t count_ = 0;
};

}  // namespace lingerd
