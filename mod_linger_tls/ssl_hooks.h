// SPDX-License-Identifier: Apache-2.0
// mod_ssl's optional hooks. They are declared in mod_ssl_openssl.h, which not every distribution
// packages; what is here is the same.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <apr_hooks.h>
#include <openssl/ssl.h>

// NOLINTBEGIN: the names are mod_ssl's
// Each server's SSL_CTX, when mod_ssl has set it up.
typedef int ssl_HOOK_init_server_t(server_rec* server, apr_pool_t* pool, int is_proxy,
                                   SSL_CTX* context);
// Each connection's SSL, before its handshake.
typedef int ssl_HOOK_pre_handshake_t(conn_rec* connection, SSL* ssl, int is_proxy);
// NOLINTEND
