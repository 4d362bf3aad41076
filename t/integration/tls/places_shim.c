// SPDX-License-Identifier: Apache-2.0
// Preloaded into httpd: counts how many numbers for data in OpenSSL's objects mod_linger_tls takes,
// a byte each in the file that NUMBERS names.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int CRYPTO_get_ex_new_index(int class, long length, void* pointer, void* make, void* copy,
                            void* free) {
  int (*real)(int, long, void*, void*, void*, void*) =
      (int (*)(int, long, void*, void*, void*, void*))dlsym(RTLD_NEXT, "CRYPTO_get_ex_new_index");
  Dl_info caller;
  if (dladdr(__builtin_return_address(0), &caller) != 0 &&
      strstr(caller.dli_fname, "mod_linger_tls") != NULL) {
    int file = open(getenv("NUMBERS"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (file < 0 || write(file, ".", 1) != 1) abort();
    close(file);
  }
  return real(class, length, pointer, make, copy, free);
}
