// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/libraries.h"

#include <httpd.h>  // before the others, which need it

#include <apr_dso.h>
#include <apr_portable.h>
#include <dlfcn.h>
#include <http_config.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>

#include "mod_linger_tls/module.h"

namespace lingerd::tls {

const char* what_is_wrong_with_libraries() {
  const module* ssl = ap_find_linked_module("mod_ssl.c");
  if (ssl == nullptr) return "mod_ssl isn't loaded";
  if (OPENSSL_version_major() < 3) return "it takes OpenSSL 3.0 or newer";
  if (ssl->dynamic_load_handle == nullptr) return nullptr;  // linked into httpd, as libssl then is
  apr_os_dso_handle_t handle = nullptr;
  if (apr_os_dso_handle_get(&handle, static_cast<apr_dso_handle_t*>(ssl->dynamic_load_handle)) !=
      APR_SUCCESS) {
    return "mod_ssl's libraries can't be looked at";
  }
  // In mod_ssl's own libraries, in the order in which they were linked.
  const void* theirs = dlsym(handle, "SSL_new");
  if (theirs == reinterpret_cast<const void*>(&SSL_new)) return nullptr;
  return "mod_ssl and mod_linger_tls use different copies of libssl";
}

// Distributions build it so that it stays by itself (-z nodelete).
bool keep_openssl_loaded() {
  Dl_info found;
  if (dladdr(reinterpret_cast<const void*>(&OPENSSL_version_major), &found) == 0) return false;
  void* libcrypto = dlopen(found.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
  if (libcrypto == nullptr) return false;
  dlclose(libcrypto);
  return true;
}

}  // namespace lingerd::tls
