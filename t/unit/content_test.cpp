// SPDX-License-Identifier: Apache-2.0
// What may hold the rest of a response, and what may not.
#include <cstdint>

#include "contract/content.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unique_fd.h"
// The last one: it redefines new.
#include <CppUTest/TestHarness.h>

using namespace lingerd;  // NOLINT: a test

namespace {

UniqueFd memory() {
  UniqueFd fd(memfd_create("content", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  CHECK_EQUAL(5, write(fd.get(), "12345", 5));
  return fd;
}

bool has(int fd, std::uint64_t offset, std::uint64_t length) {
  struct stat file {};
  return fstat(fd, &file) == 0 && has_rest(file, offset, length);
}

}  // namespace

TEST_GROUP(Content){};

TEST(Content, of_memory_is_sealed_for_ever) {
  const UniqueFd fd = memory();
  CHECK_FALSE(is_sealed(fd.get()));
  CHECK(seal(fd.get()));
  CHECK(is_sealed(fd.get()));
  CHECK(seal(fd.get()));  // an earlier hand-off has
  CHECK_EQUAL(-1, write(fd.get(), "6", 1));
  CHECK_EQUAL(-1, ftruncate(fd.get(), 1));
}

TEST(Content, half_sealed_is_not_sealed) {
  const UniqueFd fd = memory();
  CHECK_EQUAL(0, fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SEAL));
  CHECK_FALSE(is_sealed(fd.get()));
  CHECK_FALSE(seal(fd.get()));
}

TEST(Content, of_a_file_is_open_for_reading_only) {
  const UniqueFd reads(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  CHECK(is_for_reading_only(reads.get()));
  CHECK_FALSE(is_sealed(reads.get()));
  const UniqueFd writes(open("/dev/null", O_RDWR | O_CLOEXEC));
  CHECK_FALSE(is_for_reading_only(writes.get()));
  const UniqueFd only_writes(open("/dev/null", O_WRONLY | O_CLOEXEC));
  CHECK_FALSE(is_for_reading_only(only_writes.get()));
  const UniqueFd names(open("/dev/null", O_PATH | O_CLOEXEC));
  CHECK_FALSE(is_for_reading_only(names.get()));
  CHECK_FALSE(is_for_reading_only(-1));
}

TEST(Content, has_all_that_is_asked_of_it) {
  const UniqueFd fd = memory();
  CHECK(has(fd.get(), 0, 5));
  CHECK(has(fd.get(), 4, 1));
  CHECK(has(fd.get(), 5, 0));
  CHECK_FALSE(has(fd.get(), 0, 6));
  CHECK_FALSE(has(fd.get(), 6, 0));
  CHECK_FALSE(has(fd.get(), 1, ~std::uint64_t{0}));
  const UniqueFd device(open("/dev/null", O_RDONLY | O_CLOEXEC));
  CHECK_FALSE(has(device.get(), 0, 0));
}
