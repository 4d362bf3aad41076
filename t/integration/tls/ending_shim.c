// SPDX-License-Identifier: Apache-2.0
// Preloaded into httpd: a child is told to end at once (SIGTERM) in its first handshake, while
// OpenSSL holds the lock under which it looks for callbacks of data that is freed.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>

static int serves;  // it has accepted a connection
static int frees;

int accept4(int listener, struct sockaddr* address, socklen_t* length, int flags) {
  int (*real)(int, struct sockaddr*, socklen_t*, int) =
      (int (*)(int, struct sockaddr*, socklen_t*, int))dlsym(RTLD_NEXT, "accept4");
  int accepted = real(listener, address, length, flags);
  serves = serves || accepted >= 0;
  return accepted;
}

// With which libssl has built the chain of the server's certificate.
void X509_STORE_CTX_free(void* context) {
  void (*real)(void*) = (void (*)(void*))dlsym(RTLD_NEXT, "X509_STORE_CTX_free");
  frees = serves;
  real(context);
  frees = 0;
}

int CRYPTO_THREAD_unlock(void* lock) {
  int (*real)(void*) = (int (*)(void*))dlsym(RTLD_NEXT, "CRYPTO_THREAD_unlock");
  if (frees) raise(SIGTERM);
  return real(lock);
}
