// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/connection.h"

#include <httpd.h>  // before the others, which need it

#include <apr_network_io.h>
#include <apr_optional.h>
#include <apr_pools.h>
#include <http_config.h>
#include <http_core.h>
#include <http_log.h>
#include <mod_ssl.h>

#include <cstddef>
#include <new>
#include <utility>

#include "mod_linger_tls/arrival.h"
#include "mod_linger_tls/feature.h"
#include "mod_linger_tls/filters.h"
#include "mod_linger_tls/inner/server_session.h"
#include "mod_linger_tls/libraries.h"
#include "mod_linger_tls/module.h"
#include "mod_linger_tls/past_ssl.h"

namespace lingerd::tls {
namespace {

// OpenSSL gives no number twice, not even one that has been freed, and each makes its objects
// larger: these outlive a restart. They are without callbacks, which would be in a library that
// httpd unloads.
struct Places {
  int in_ssl;
  int in_context;
};
Places places{-1, -1};

// Whether mod_ssl has an object for a connection. On some errors it frees that long before the
// connection's pool goes.
APR_OPTIONAL_FN_TYPE(ssl_is_https) * has_ssl = nullptr;

using KeyLog = void (*)(const SSL*, const char*);
struct Chained {
  KeyLog callback;  // that was there before
};

bool is_clients(const conn_rec* connection) {
#if AP_MODULE_MAGIC_AT_LEAST(20120211, 116)
  if (connection->outgoing) return false;
#endif
  return connection->master == nullptr;
}

// OpenSSL's callbacks are C's as well.
void note_secret(const SSL* ssl, const char* line) noexcept {
  if (Connection* ours = connection_of(ssl)) ours->tap.note_log_line(line);
  const auto* chained =
      static_cast<Chained*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), places.in_context));
  if (chained != nullptr) chained->callback(ssl, line);
}

void note_message(int written, int, int type, const void* bytes, std::size_t length, SSL* ssl,
                  void* ours) noexcept {
  const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl);
  static_cast<Connection*>(ours)->tap.note_message(
      written != 0, type, {static_cast<const unsigned char*>(bytes), length},
      cipher != nullptr ? SSL_CIPHER_get_protocol_id(cipher) : std::uint16_t{0});
}

int find_session(SSL* ssl, const unsigned char* identity, std::size_t length,
                 SSL_SESSION** session) noexcept {
  *session = nullptr;
  const Connection* ours = connection_of(ssl);
  return ours != nullptr && ours->bridge ? ours->bridge->find_session(identity, length, session)
                                         : 1;
}

// Before mod_ssl frees its object with the pool. Takes no lock: a child of prefork's ends in a
// signal handler, maybe while OpenSSL holds it.
apr_status_t let_go_of_ssl(void* data) {
  auto* ours = static_cast<Connection*>(data);
  SSL* ssl = ssl_of(*ours);
  ours->met = nullptr;
  if (ssl == nullptr) return APR_SUCCESS;
  SSL_set_ex_data(ssl, places.in_ssl, nullptr);
  SSL_set_msg_callback(ssl, nullptr);
  // OpenSSL takes an end without a goodbye for a failure, and the session for one that nobody may
  // resume. Of a parked connection it isn't.
  if (ours->gone) SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  return APR_SUCCESS;
}

Connection& make_connection(conn_rec* connection) {
  auto* ours = new (apr_palloc(connection->pool, sizeof(Connection))) Connection(connection);
  apr_pool_cleanup_register(
      connection->pool, ours,
      [](void* data) -> apr_status_t {
        static_cast<Connection*>(data)->~Connection();
        return APR_SUCCESS;
      },
      apr_pool_cleanup_null);
  apr_pool_pre_cleanup_register(connection->pool, ours, let_go_of_ssl);
  ap_set_module_config(connection->conn_config, &linger_tls_module, ours);
  return *ours;
}

// False: it can't be gone on with.
bool build_bridge(conn_rec* connection, Connection& ours, Arrival& arrival) {
  ours.arrived_ns = arrival.since_ns;
  ours.bridge.emplace(std::move(arrival.state));
  arrival.state = {};  // secrets are copied
  if (ours.bridge->start()) return true;
  ap_log_cerror(APLOG_MARK, APLOG_WARNING, 0, connection,
                "can't go on with a parked TLS connection: %s", ours.bridge->failure());
  return false;
}

}  // namespace

Connection* connection_of(conn_rec* connection) {
  return static_cast<Connection*>(
      ap_get_module_config(connection->conn_config, &linger_tls_module));
}

Connection* connection_of(const SSL* ssl) {
  return static_cast<Connection*>(SSL_get_ex_data(ssl, places.in_ssl));
}

SSL* ssl_of(const Connection& ours) {
  return ours.met != nullptr && has_ssl(ours.connection) != 0 ? ours.met : nullptr;
}

bool prepare_connections() {
  static constexpr char kRetained[] = "mod_linger_tls places in OpenSSL's objects";
  has_ssl = APR_RETRIEVE_OPTIONAL_FN(ssl_is_https);
  if (has_ssl == nullptr || !keep_openssl_loaded()) return false;
  if (const auto* known = static_cast<const Places*>(ap_retained_data_get(kRetained))) {
    places = *known;
    return true;
  }
  places = {.in_ssl = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr),
            .in_context = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr)};
  if (places.in_ssl < 0 || places.in_context < 0) return false;
  *static_cast<Places*>(ap_retained_data_create(kRetained, sizeof places)) = places;
  return true;
}

int begin_connection(conn_rec* connection, void* socket) {
  if (!is_clients(connection)) return DECLINED;
  Arrival* arrival = arrival_on(static_cast<apr_socket_t*>(socket));
  if (arrival == nullptr && !feature_is_on()) return DECLINED;
  Connection& ours = make_connection(connection);
  if (arrival == nullptr) return OK;
  return build_bridge(connection, ours, *arrival) ? OK : HTTP_INTERNAL_SERVER_ERROR;
}

int check_connection(conn_rec* connection) {
  Connection* ours = is_clients(connection) ? connection_of(connection) : nullptr;
  if (ours == nullptr) return DECLINED;
  ours->late = true;
  if (!ours->bridge || ssl_of(*ours) != nullptr) return DECLINED;
  // A restart may have changed what is spoken at its address.
  ap_log_cerror(APLOG_MARK, APLOG_INFO, 0, connection,
                "closed: it was parked while this server spoke TLS with mod_ssl");
  connection->aborted = 1;
  return DONE;
}

int meet_ssl(conn_rec* connection, SSL* ssl, int is_proxy) {
  Connection* ours = is_proxy == 0 && is_clients(connection) ? connection_of(connection) : nullptr;
  if (ours == nullptr || ours->late) return DECLINED;
  if (SSL_set_ex_data(ssl, places.in_ssl, ours) != 1) return DECLINED;
  if (ours->bridge) {
    if (!ServerSession::admit(ssl, find_session)) return HTTP_INTERNAL_SERVER_ERROR;
  } else {
    SSL_set_msg_callback(ssl, note_message);
    SSL_set_msg_callback_arg(ssl, ours);
  }
  ours->met = ssl;
  add_past_ssl(connection, *ours);
  add_filters(connection, *ours);
  return OK;
}

int tap_context(server_rec*, apr_pool_t* pool, int is_proxy, SSL_CTX* context) {
  if (is_proxy != 0 || !feature_is_wanted()) return DECLINED;
  if (const KeyLog before = SSL_CTX_get_keylog_callback(context)) {
    auto* chained = new (apr_palloc(pool, sizeof(Chained))) Chained{before};
    if (SSL_CTX_set_ex_data(context, places.in_context, chained) != 1) return DECLINED;
  }
  SSL_CTX_set_keylog_callback(context, note_secret);
  return OK;
}

}  // namespace lingerd::tls
