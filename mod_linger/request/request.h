// SPDX-License-Identifier: Apache-2.0
// LingerRequest: a request that is still coming waits in lingerd, and the worker is free. A
// connection input filter just above the core's looks at a request before httpd reads the first
// byte of it (MSG_PEEK). If its head, or a body of at most LingerRequestBody, isn't there and
// doesn't come within a few milliseconds, the socket goes to lingerd with all that it holds, and
// comes back when what is missing has come. Where it doubts it does nothing, and the worker waits
// as ever.
//
// So that it stays that way for the next request, this filter reads in the core's place, and no
// byte more than is asked for (reader.h): what the core reads ahead could not be given away.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>
#include <util_filter.h>

namespace lingerd {

// What a connection knows of the request that is being read, or is read next.
struct Request {
  // What may still be waited for: each at most once, so that nothing goes back and forth.
  enum class MayWait { kForHead, kForBody, kNoMore };
  MayWait may_wait = MayWait::kForHead;
  bool begins = true;                  // httpd has read nothing of it
  bool is_first = true;                // since the connection came, or came back
  bool timed_out = false;              // in lingerd: no more of it is waited for
  bool is_cut_off = false;             // httpd has been told so
  bool is_cores = false;               // the core reads from here on
  apr_bucket_brigade* kept = nullptr;  // read and not asked for yet: a head
};

// Hooks the feature into httpd.
void register_request();

void register_request_filter();

// Hook: process_connection, behind the one that marks a client's, and behind parking's.
int add_request_filter(conn_rec* connection);

// Hook: pre_close_connection. What mod_reqtimeout notes and logs of a read that has timed out,
// where it isn't there or doesn't limit that: the client has had its time, and doesn't get it again
// at the connection's end.
int note_cut_off(conn_rec* connection);

// Hook: create_request. The next one begins.
int note_request(request_rec* request);

}  // namespace lingerd
