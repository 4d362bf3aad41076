// SPDX-License-Identifier: Apache-2.0
// OffloadWriter's way with files: they are sent without a copy, and may travel as they are.
#include "mod_linger/offload/writer.h"

#include <apr_portable.h>

#include <cerrno>
#include <cstdint>

#include "mod_linger/offload/rest_bytes.h"
#include "mod_linger/offload/room.h"
#include "mod_linger/offload/wait.h"

namespace lingerd {
namespace {

using Result = RestBytes::Result;

FilePart file_part_of(const apr_bucket* bucket) {
  const auto* content = static_cast<const apr_bucket_file*>(bucket->data);
  apr_os_file_t file = -1;
  apr_os_file_get(&file, content->fd);
  // EnableSendfile Off (the default) is for file systems that sendfile doesn't work with.
  const bool may_sendfile = (apr_file_flags_get(content->fd) & APR_SENDFILE_ENABLED) != 0;
  return {file, static_cast<std::uint64_t>(bucket->start), bucket->length, may_sendfile};
}

}  // namespace

// Bytes behind a file's rest (of an SSI page, of several ranges): it becomes bytes too, or is too
// large, and has to be out first.
apr_status_t OffloadWriter::keep_behind_file() {
  Result result = Result::kNoRoom;
  if (rest_bytes_.left() < most_ && lingerd_has_room(rest_bytes_.left()))
    result = rest_bytes_.read_file();
  if (result == Result::kBroken) return broken(errno);
  return result == Result::kDone ? APR_SUCCESS : wait_until_left(connection_, rest_, 0);
}

// `done` stays false for a file that can't travel: its bytes can.
apr_status_t OffloadWriter::write_file(apr_bucket* bucket, bool& done) {
  FilePart part = file_part_of(bucket);
  const bool travels = files_travel_ && part.can_travel();
  if (!rest_bytes_.empty()) {
    const bool fits = !rest_bytes_.is_file() && part.length < most_ - rest_bytes_.left();
    if (fits || !travels) return APR_SUCCESS;
    // Too large to become bytes: what is in front of it has to be out first.
    const apr_status_t status = wait_until_left(connection_, rest_, 0);
    if (status != APR_SUCCESS) return status;
  }
  const Result result = part.send(fd());
  offload_.segment_open = false;
  const std::uint64_t sent = bucket->length - part.length;
  count_out(sent);
  if (result == Result::kBroken) return broken(errno);
  done = result == Result::kDone;
  if (done) return APR_SUCCESS;
  // A large file that may not travel would keep the worker; the core's filter may do without one.
  if (!lingerd_has_room(0) || (!files_travel_ && part.length > most_)) return hand_back(sent);
  if (travels && rest_.hold_socket(fd()) && rest_bytes_.hold_file(part) == Result::kDone) {
    count_out(part.length);
    done = true;
    return APR_SUCCESS;
  }
  // The rest as bytes. Its bucket is behind this one, and comes next.
  if (sent > 0) {
    done = true;
    const apr_status_t status = apr_bucket_split(bucket, static_cast<apr_size_t>(sent));
    if (status != APR_SUCCESS) return broken(status);
  }
  return APR_SUCCESS;
}

}  // namespace lingerd
