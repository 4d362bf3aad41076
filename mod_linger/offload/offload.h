// SPDX-License-Identifier: Apache-2.0
// Offload: the rest of a connection's last response goes to lingerd with the socket. A connection
// output filter under mod_ssl's (it sees ciphertext) and above the core's. While it doubts, it
// passes everything on and changes nothing; once it knows that this response is the connection's
// last, it writes to the socket itself, and what the socket doesn't take goes into the rest
// instead of keeping the worker. While the handler still works, the sender sends that on; at the
// response's end it goes to lingerd, and only then the request ends (its EOR bucket is destroyed):
// what is logged is true, and what modules do at the end of a request keeps no client waiting.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>

#include <memory>

#include "mod_linger/offload/rest.h"

namespace lingerd {

// What becomes of the response that a connection is at.
enum class OffloadState {
  kForbidden,  // the core's filter writes it: none that may travel, or lingerd had no room for it
  kDoubtful,   // so far the core's filter writes it
  kDirect,     // this filter writes it to the socket; the core's has nothing left
  kEnded,      // the same, and the handler has said its last byte (EOS)
  kGiven,      // lingerd sends the rest
};

// What a connection knows of its offload.
struct Offload {
  OffloadState state = OffloadState::kForbidden;
  const request_rec* request = nullptr;  // whose response it is
  bool segment_open = false;             // the kernel holds back a part of a segment (MSG_MORE)
  std::shared_ptr<Rest> rest;            // from kDirect on
  apr_bucket_brigade* kept = nullptr;    // EOR, and what came behind it, while there is a rest

  // For the worker, once the sender has let go of it.
  [[nodiscard]] bool has_rest() const { return rest != nullptr && !rest->bytes.empty(); }
};

// Null without LingerOffload, and for what isn't a client's connection.
[[nodiscard]] Offload* offload_of(conn_rec* connection);

// Hooks the feature into httpd and into the connection's end.
void register_offload();

}  // namespace lingerd
