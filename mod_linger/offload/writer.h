// SPDX-License-Identifier: Apache-2.0
// Writes brigades to the client's socket in place of the core's filter: what the socket takes at
// once; what it doesn't take becomes the connection's rest.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

#include "mod_linger/offload/offload.h"
#include "mod_linger/offload/rest.h"
#include "mod_linger/offload/rest_bytes.h"

namespace lingerd {

struct Settings;

// Lives for one brigade.
class OffloadWriter {
 public:
  OffloadWriter(conn_rec* connection, Offload& offload, const Settings& settings);

  // APR_SUCCESS, or why the connection is over. Where lingerd has no room for a rest, or none
  // can be had, it hands back: what is left in the brigade is the core filter's to write, which may
  // do so without a worker (event).
  [[nodiscard]] apr_status_t write(apr_bucket_brigade* brigade);
  [[nodiscard]] bool handed_back() const { return handed_back_; }

 private:
  static constexpr std::size_t kMostPieces = 64;

  apr_status_t write_buckets();
  apr_status_t write_bucket(apr_bucket* bucket);
  apr_status_t write_metadata(apr_bucket* bucket);
  apr_status_t take(apr_bucket* bucket);
  apr_status_t write_file(apr_bucket* bucket, bool& done);
  apr_status_t write_pieces(apr_bucket* until, bool more);
  apr_status_t send_pieces(std::span<iovec>& rest, bool more, std::uint64_t& sent);
  apr_status_t keep(std::span<iovec> pieces);
  apr_status_t keep_behind_file();
  apr_status_t send_waiting(iovec part);
  apr_status_t hand_back(std::uint64_t sent);
  apr_status_t let_send(std::uint64_t in_ns, std::uint64_t else_at_most);
  apr_status_t broken(apr_status_t why);
  void count_out(std::uint64_t bytes) const;
  void keep_bucket(apr_bucket* bucket);
  void drop_until(const apr_bucket* until);
  void end_segment();
  [[nodiscard]] int fd() const;

  conn_rec* connection_;
  Offload& offload_;
  Rest& rest_;
  RestBytes& rest_bytes_;
  const std::uint64_t most_;  // bytes that the rest may hold in memory
  const bool files_travel_;
  std::unique_lock<std::mutex> lock_;
  bool handed_back_ = false;
  apr_bucket_brigade* brigade_ = nullptr;
  // They point into the buckets before the current one, which live until the bytes are written.
  std::array<iovec, kMostPieces> pieces_{};
  std::size_t count_ = 0;
};

}  // namespace lingerd
