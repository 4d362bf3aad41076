// SPDX-License-Identifier: Apache-2.0
// Preloaded into httpd: an OpenSSL that tells wrong secrets, of the side that WRONG_SECRET names.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef void callback(const void* ssl, const char* line);
static callback* told;

static void tell_wrong(const void* ssl, const char* line) {
  const char* side = getenv("WRONG_SECRET");
  if (side == NULL || strncmp(line, side, strlen(side)) != 0) {
    told(ssl, line);
    return;
  }
  char changed[512];
  strncpy(changed, line, sizeof changed - 1);
  changed[sizeof changed - 1] = '\0';
  char* last = &changed[strlen(changed) - 1];
  *last = *last == '0' ? '1' : '0';
  told(ssl, changed);
}

void SSL_CTX_set_keylog_callback(void* context, callback* wanted) {
  void (*real)(void*, callback*) =
      (void (*)(void*, callback*))dlsym(RTLD_NEXT, "SSL_CTX_set_keylog_callback");
  told = wanted;
  real(context, wanted != NULL ? tell_wrong : NULL);
}
