// SPDX-License-Identifier: Apache-2.0
// Reads a client's bytes as the core's input filter does, and no byte more than is asked for: what
// isn't asked for stays in the kernel, where lingerd can have it.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>
#include <util_filter.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lingerd {

struct Request;

// What lies in the socket, unread. `is_over`: the client's FIN, and nothing before it, or an error.
struct Unread {
  bool is_over = false;
  std::uint64_t there = 0;
  std::string_view front;  // of this thread, until its next look
};
[[nodiscard]] Unread look_at(int fd);

// Reads that many bytes, which are there, into `request.kept`.
apr_status_t keep(conn_rec* connection, Request& request, std::size_t bytes);

// Waits for something to read, as long as the socket's timeout says.
apr_status_t wait_for_more(conn_rec* connection);

// As an input filter. Nothing but kept and unread bytes are there: the core has read nothing ahead.
apr_status_t read_from_socket(ap_filter_t* filter, Request& request, apr_bucket_brigade* brigade,
                              ap_input_mode_t mode, apr_read_type_e block, apr_off_t bytes);

}  // namespace lingerd
