// SPDX-License-Identifier: Apache-2.0
// LD_PRELOAD shim for tests: lets calls of libc functions fail with an errno of the test's choice
// or come late, and moves the calendar. Rules are in the file $INJECT_RULES, which the test and every process
// that inherits the variable have mapped: the test writes them while the servers run, and reads
// how often they were asked and applied. Functions without a rule are passed on.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

// As t/integration/harness/inject.py has them.
struct rule {
  char function[32];         // written last: a rule without a name isn't in force
  _Atomic uint32_t calls;    // of the function, since the rule is there
  _Atomic uint32_t applied;  // of them, those that failed for it
  uint32_t first;            // the first call to fail, counted from 1
  uint32_t count;            // how many fail from there on
  int32_t error;             // errno; 0: it isn't to fail
  uint32_t delay_ms;         // before it does anything
};
enum { RULES = 16 };
struct rules {
  _Atomic int64_t calendar_offset_s;  // added to CLOCK_REALTIME
  _Atomic uint64_t calendar_calls;    // how often somebody asked for it
  _Atomic uint32_t send_buffer;       // SO_SNDBUF of new SOCK_SEQPACKET sockets; 0: the default
  uint32_t spare;
  struct rule rule[RULES];
};

// By system calls, because a sanitizer's libc functions may not be ready yet when they are first
// called.
static struct rules *rules_of_test(void) {
  static struct rules *mapped = NULL;
  static _Atomic int tried = 0;
  const char *path = mapped != NULL ? NULL : getenv("INJECT_RULES");
  if (path == NULL || atomic_exchange(&tried, 1)) return mapped;
  const int saved = errno;
  const long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
  if (fd >= 0) {
    void *page = (void *)syscall(SYS_mmap, NULL, sizeof(struct rules), PROT_READ | PROT_WRITE,
                                 MAP_SHARED, (int)fd, 0L);
    syscall(SYS_close, (int)fd);
    if (page != MAP_FAILED) mapped = page;
  }
  errno = saved;
  return mapped;
}

// Before main(): a server that drops its privileges couldn't open the file any more.
__attribute__((constructor)) static void map_early(void) { (void)rules_of_test(); }

static void wait_ms(uint32_t ms) {
  const int saved = errno;
  const struct timespec pause = {ms / 1000, (long)(ms % 1000) * 1000000};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
  errno = saved;
}

// The errno that this call is to fail with, or 0.
static int verdict(const char *function) {
  struct rules *rules = rules_of_test();
  int error = 0;
  if (rules == NULL) return 0;
  for (int i = 0; i < RULES; ++i) {
    struct rule *rule = &rules->rule[i];
    if (strncmp(rule->function, function, sizeof rule->function) != 0) continue;
    const uint32_t number = atomic_fetch_add(&rule->calls, 1) + 1;
    if (error != 0 || number < rule->first || number - rule->first >= rule->count) continue;
    atomic_fetch_add(&rule->applied, 1);
    error = rule->error;
    if (rule->delay_ms != 0) wait_ms(rule->delay_ms);
  }
  return error;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_OR_PASS(name, failure, ...)     \
  do {                                       \
    const int error = verdict(#name);        \
    if (error != 0) {                        \
      errno = error;                         \
      return failure;                        \
    }                                        \
    static __typeof__(&name) real = NULL;    \
    if (real == NULL) real = REAL(name);     \
    return real(__VA_ARGS__);                \
  } while (0)

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
  FAIL_OR_PASS(accept4, -1, fd, address, size, flags);
}
int bind(int fd, const struct sockaddr *address, socklen_t size) {
  FAIL_OR_PASS(bind, -1, fd, address, size);
}
int listen(int fd, int backlog) { FAIL_OR_PASS(listen, -1, fd, backlog); }
int connect(int fd, const struct sockaddr *address, socklen_t size) {
  FAIL_OR_PASS(connect, -1, fd, address, size);
}
static int dup3_or_fail(int from, int to, int flags) { FAIL_OR_PASS(dup3, -1, from, to, flags); }
int dup3(int from, int to, int flags) {
  const int made = dup3_or_fail(from, to, flags);
  (void)verdict("dup3 done");  // a rule for it delays the caller behind the call
  return made;
}
int epoll_create1(int flags) { FAIL_OR_PASS(epoll_create1, -1, flags); }
int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event) {
  FAIL_OR_PASS(epoll_ctl, -1, epoll, operation, fd, event);
}
int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout) {
  FAIL_OR_PASS(epoll_wait, -1, epoll, events, most, timeout);
}
int fchmod(int fd, mode_t mode) { FAIL_OR_PASS(fchmod, -1, fd, mode); }
int getsockopt(int fd, int level, int option, void *value, socklen_t *size) {
  FAIL_OR_PASS(getsockopt, -1, fd, level, option, value, size);
}
void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
  FAIL_OR_PASS(mmap, MAP_FAILED, address, size, protection, flags, fd, offset);
}
int nanosleep(const struct timespec *wanted, struct timespec *left) {
  FAIL_OR_PASS(nanosleep, -1, wanted, left);
}
int poll(struct pollfd *fds, nfds_t count, int timeout) {
  FAIL_OR_PASS(poll, -1, fds, count, timeout);
}
ssize_t recv(int fd, void *buffer, size_t size, int flags) {
  FAIL_OR_PASS(recv, -1, fd, buffer, size, flags);
}
ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
  FAIL_OR_PASS(recvmsg, -1, fd, message, flags);
}
int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags,
             struct timespec *timeout) {
  FAIL_OR_PASS(recvmmsg, -1, fd, messages, count, flags, timeout);
}
int memfd_create(const char *name, unsigned flags) {
  FAIL_OR_PASS(memfd_create, -1, name, flags);
}
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
  FAIL_OR_PASS(pwrite, -1, fd, bytes, size, offset);
}
int socketpair(int domain, int type, int protocol, int ends[2]) {
  FAIL_OR_PASS(socketpair, -1, domain, type, protocol, ends);
}
int rename(const char *from, const char *to) { FAIL_OR_PASS(rename, -1, from, to); }
ssize_t send(int fd, const void *bytes, size_t size, int flags) {
  FAIL_OR_PASS(send, -1, fd, bytes, size, flags);
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  FAIL_OR_PASS(sendmsg, -1, fd, message, flags);
}
int setsockopt(int fd, int level, int option, const void *value, socklen_t size) {
  FAIL_OR_PASS(setsockopt, -1, fd, level, option, value, size);
}
int shutdown(int fd, int how) { FAIL_OR_PASS(shutdown, -1, fd, how); }
int signalfd(int fd, const sigset_t *signals, int flags) {
  FAIL_OR_PASS(signalfd, -1, fd, signals, flags);
}

// What goes by a path, or could: chmod and chown for a program that shouldn't use them.
int chmod(const char *path, mode_t mode) { FAIL_OR_PASS(chmod, -1, path, mode); }
int chown(const char *path, uid_t user, gid_t group) {
  FAIL_OR_PASS(chown, -1, path, user, group);
}
int fchownat(int fd, const char *path, uid_t user, gid_t group, int flags) {
  FAIL_OR_PASS(fchownat, -1, fd, path, user, group, flags);
}
int unlink(const char *path) { FAIL_OR_PASS(unlink, -1, path); }
int posix_fallocate(int fd, off_t offset, off_t size) {
  const int error = verdict("posix_fallocate");
  return error != 0 ? error : REAL(posix_fallocate)(fd, offset, size);
}

int open(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  FAIL_OR_PASS(open, -1, path, flags, mode);
}

int fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  FAIL_OR_PASS(fcntl, -1, fd, command, argument);
}

int ioctl(int fd, unsigned long request, ...);
int ioctl(int fd, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  FAIL_OR_PASS(ioctl, -1, fd, request, argument);
}

// In httpd only the module makes sockets of this kind: rules for `socket` mean those.
int socket(int domain, int type, int protocol) {
  const int kind = type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK);
  const int error = kind == SOCK_SEQPACKET ? verdict("socket") : 0;
  if (error != 0) {
    errno = error;
    return -1;
  }
  const int fd = REAL(socket)(domain, type, protocol);
  struct rules *rules = rules_of_test();
  const uint32_t buffer = rules == NULL ? 0 : atomic_load(&rules->send_buffer);
  if (fd >= 0 && kind == SOCK_SEQPACKET && buffer != 0) {
    REAL(setsockopt)(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
  }
  return fd;
}

// ---- The calendar ----

static int64_t calendar_offset(void) {
  struct rules *rules = rules_of_test();
  if (rules == NULL) return 0;
  atomic_fetch_add(&rules->calendar_calls, 1);
  return atomic_load(&rules->calendar_offset_s);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  const int error = verdict("clock_gettime");
  if (error != 0) {
    errno = error;
    return -1;
  }
  static __typeof__(&clock_gettime) real = NULL;
  if (real == NULL) real = REAL(clock_gettime);
  const int result = real(clock, now);
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += calendar_offset();
  return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  const int result = REAL(gettimeofday)(now, zone);
  now->tv_sec += calendar_offset();
  return result;
}

time_t time(time_t *now) {
  const time_t moved = REAL(time)(NULL) + calendar_offset();
  if (now != NULL) *now = moved;
  return moved;
}

// A build with _FILE_OFFSET_BITS=64 calls these, also where they are the same.
#if __SIZEOF_LONG__ == 8
#define SAME_AS(name) __attribute__((alias(#name)))
void *mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset)
    SAME_AS(mmap);
ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t offset) SAME_AS(pwrite);
int posix_fallocate64(int fd, off_t offset, off_t size) SAME_AS(posix_fallocate);
int open64(const char *path, int flags, ...) SAME_AS(open);
int fcntl64(int fd, int command, ...) SAME_AS(fcntl);
#endif
