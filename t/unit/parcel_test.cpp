// SPDX-License-Identifier: Apache-2.0
#include "lingerd/succession/parcel.h"
#include "base/unique_fd.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <system_error>
#include <utility>
#include <vector>

#include <CppUTest/TestHarness.h>

using namespace lingerd;

namespace {

ino_t inode_of(int fd) {
  struct stat file {};
  fstat(fd, &file);
  return file.st_ino;
}

std::vector<UniqueFd> pipes(std::size_t count) {
  std::vector<UniqueFd> ends;
  while (ends.size() < count) {
    std::array<int, 2> pair{};
    CHECK_EQUAL(0, pipe2(pair.data(), O_CLOEXEC));
    ends.emplace_back(pair[0]);
    ends.emplace_back(pair[1]);
  }
  return ends;
}

std::vector<int> raw(const std::vector<UniqueFd>& descriptors) {
  std::vector<int> out;
  for (const UniqueFd& fd : descriptors) out.push_back(fd.get());
  return out;
}

const std::array<std::byte, 3> kState{std::byte{1}, std::byte{2}, std::byte{3}};

}  // namespace

TEST_GROUP(Parcel){};

TEST(Parcel, gives_back_everything_in_order) {
  const std::vector<UniqueFd> held = pipes(600);
  const Parcel parcel = pack(kState, "max-time = 7\n", raw(held));
  const Unpacked unpacked = unpack(parcel);
  CHECK(std::ranges::equal(kState, unpacked.state));
  STRCMP_EQUAL("max-time = 7\n", unpacked.configuration.c_str());
  LONGS_EQUAL(held.size(), unpacked.expected);
  LONGS_EQUAL(held.size(), unpacked.descriptors.size());
  for (std::size_t i = 0; i < held.size(); ++i) {
    LONGS_EQUAL(inode_of(held[i].get()), inode_of(unpacked.descriptors[i].get()));
  }
}

// A successor that dies has taken nothing away.
TEST(Parcel, can_be_unpacked_again_and_counts_it) {
  const std::vector<UniqueFd> held = pipes(300);
  const Parcel parcel = pack(kState, "", raw(held));
  for (std::uint32_t attempt = 1; attempt <= 3; ++attempt) {
    const Unpacked unpacked = unpack(parcel);
    LONGS_EQUAL(attempt, unpacked.attempts);
    LONGS_EQUAL(held.size(), unpacked.descriptors.size());
    LONGS_EQUAL(inode_of(held.front().get()), inode_of(unpacked.descriptors.front().get()));
    CHECK(std::ranges::equal(kState, unpacked.state));
  }
}

TEST(Parcel, may_be_empty) {
  const Unpacked unpacked = unpack(pack({}, "", {}));
  CHECK(unpacked.descriptors.empty() && unpacked.state.empty() && unpacked.configuration.empty());
  LONGS_EQUAL(1, unpacked.attempts);
}

TEST(Parcel, of_something_else_is_empty) {
  std::vector<UniqueFd> ends = pipes(2);
  const Unpacked unpacked = unpack({std::move(ends[0]), std::move(ends[1])});
  CHECK(unpacked.descriptors.empty() && unpacked.state.empty());
  LONGS_EQUAL(0, unpacked.attempts);
}

// More than one pair holds: the same few descriptors, again and again, because what a process may
// have open is less.
TEST(Parcel, holds_more_than_fits_into_one_pair) {
  const std::vector<UniqueFd> held = pipes(2);
  std::vector<int> many;
  while (many.size() < 200'000) many.push_back(held[many.size() % 2].get());
  Parcel parcel;
  try {
    parcel = pack(kState, "", many);
  } catch (const std::system_error& error) {
    // As an ordinary user: a limit of the kernel's, for what RLIMIT_NOFILE allows to be open.
    LONGS_EQUAL(ETOOMANYREFS, error.code().value());
    return;
  }
  std::size_t count = 0;
  bool in_order = true;
  const std::array<ino_t, 2> inodes{inode_of(held[0].get()), inode_of(held[1].get())};
  const Unpacked unpacked = unpack(parcel, [&](UniqueFd fd) {
    if (count % 1000 < 2) in_order = in_order && inode_of(fd.get()) == inodes[count % 2];
    ++count;
  });
  LONGS_EQUAL(many.size(), count);
  LONGS_EQUAL(many.size(), unpacked.expected);
  CHECK(in_order);
}
