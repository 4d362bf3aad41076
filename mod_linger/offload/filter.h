// SPDX-License-Identifier: Apache-2.0
// The filters of LingerOffload: when a response may travel.
//
// Before it begins, the core's filter is flushed once and has nothing more, so nothing can get
// out of order. If lingerd has no room when the socket is full for the first time, the core's
// filter gets the rest back: on event it writes that without a worker, as ever.
//
// Tunnels are known by their filters. mod_proxy shuts the client's socket down as soon as the
// core's filter holds nothing, and a rest of ours would be lost. A tunnel takes the request's
// own filters away: such a connection is left alone.
#pragma once

#include <httpd.h>

namespace lingerd {

void register_offload_filters();

// Hook: post_config. Whether any server of this configuration has LingerOffload On: without one
// there is no filter.
int look_for_offload(apr_pool_t* config_pool, apr_pool_t* log_pool, apr_pool_t* temp_pool,
                     server_rec* servers);
// Hook: process_connection, behind the one that marks a client's.
int add_offload_filter(conn_rec* connection);
// Hook: insert_filter.
void add_offload_close_filter(request_rec* request);

// Hooks: post_read_request, and log_transaction, when a request is about to be freed; that one says
// "offload" in the request's note for the log (connection.h), if lingerd has got the rest.
int begin_offload(request_rec* request);
int end_offload(request_rec* request);

}  // namespace lingerd
