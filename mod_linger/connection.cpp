// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/connection.h"

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>
#include <apr_portable.h>
#include <http_config.h>
#include <http_core.h>

#include <new>

#include "mod_linger/child.h"
#include "mod_linger/module.h"
#include "mod_linger/settings.h"

namespace lingerd {
namespace {

bool is_clients(const conn_rec* connection) {
#if AP_MODULE_MAGIC_AT_LEAST(20120211, 116)
  if (connection->outgoing) return false;
#endif
  return connection->master == nullptr;
}

}  // namespace

Connection* connection_of(conn_rec* connection) {
  return static_cast<Connection*>(ap_get_module_config(connection->conn_config, &linger_module));
}

const server_rec* server_of(conn_rec* connection) {
  return server_of(connection, connection_of(connection));
}

const server_rec* server_of(conn_rec* connection, const Connection* ours) {
  const server_rec* last = ours != nullptr ? ours->server.load(std::memory_order_relaxed) : nullptr;
  return last != nullptr ? last : connection->base_server;
}

int socket_of(conn_rec* connection) {
  apr_socket_t* socket = ap_get_conn_socket(connection);
  apr_os_sock_t fd = -1;
  if (socket == nullptr || apr_os_sock_get(&fd, socket) != APR_SUCCESS) return -1;
  return fd;
}

int mark_connection(conn_rec* connection) {
  // event and HTTP/2 come here several times.
  if (is_clients(connection) && connection_of(connection) == nullptr) {
    auto* ours = new (apr_palloc(connection->pool, sizeof(Connection))) Connection;
    ap_set_module_config(connection->conn_config, &linger_module, ours);
  }
  return DECLINED;
}

bool is_plain_http(const request_rec* request) {
  return request->connection->master == nullptr && request->method_number != M_CONNECT &&
         request->proto_num >= HTTP_VERSION(1, 0) &&
         apr_table_get(request->headers_in, "Upgrade") == nullptr;
}

apr_status_t flush_from(ap_filter_t* filter, conn_rec* connection) {
  apr_bucket_brigade* flush = apr_brigade_create(connection->pool, connection->bucket_alloc);
  APR_BRIGADE_INSERT_TAIL(flush, apr_bucket_flush_create(connection->bucket_alloc));
  const apr_status_t status = ap_pass_brigade(filter, flush);
  apr_brigade_destroy(flush);
  return status;
}

int note_server(request_rec* request) {
  conn_rec* connection = request->connection;
  if (connection->master != nullptr) connection = connection->master;
  if (Connection* ours = connection_of(connection)) {
    ours->server.store(request->server, std::memory_order_relaxed);
  }
  return DECLINED;
}

int note_for_log(request_rec* request) {
  conn_rec* connection = request->connection;
  if (connection->master == nullptr && connection->keepalive == AP_CONN_CLOSE) {
    const bool on = settings_of(request->server).enabled && this_child().client != nullptr;
    apr_table_setn(request->notes, "linger", on ? "offer" : "off");
  }
  return DECLINED;
}

}  // namespace lingerd
