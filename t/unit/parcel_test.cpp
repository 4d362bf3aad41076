// SPDX-License-Identifier: Apache-2.0
#include "lingerd/succession/parcel.h"
#include "base/unique_fd.h"

#include <fcntl.h>
#include <sys/resource.h>
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

std::vector<Descriptors> as(Role role, const std::vector<UniqueFd>& descriptors) {
  Descriptors out{role, {}};
  for (const UniqueFd& fd : descriptors) out.in_order.push_back(fd.get());
  return {out};
}

const std::array<std::byte, 3> kState{std::byte{1}, std::byte{2}, std::byte{3}};

}  // namespace

TEST_GROUP(Parcel){};

TEST(Parcel, gives_back_everything_in_order) {
  const std::vector<UniqueFd> held = pipes(600);
  const Parcel parcel = pack(kState, "max-time = 7\n", as(Role::kSocket, held));
  const Unpacked unpacked = unpack(parcel);
  CHECK(std::ranges::equal(kState, unpacked.state));
  STRCMP_EQUAL("max-time = 7\n", unpacked.configuration.c_str());
  LONGS_EQUAL(held.size(), unpacked.expected);
  LONGS_EQUAL(held.size(), unpacked.items.size());
  for (std::size_t i = 0; i < held.size(); ++i) {
    LONGS_EQUAL(inode_of(held[i].get()), inode_of(unpacked.items[i].fd.get()));
    LONGS_EQUAL(i, unpacked.items[i].index);
    CHECK(unpacked.items[i].role == Role::kSocket);
  }
}

TEST(Parcel, says_of_each_what_it_is_and_which) {
  const std::vector<UniqueFd> held = pipes(8);
  const std::array all{as(Role::kParked, held)[0], Descriptors{Role::kAddress, {}},
                       Descriptors{Role::kContent, {held[3].get()}}, as(Role::kPeer, held)[0]};
  const Unpacked unpacked = unpack(pack(kState, "", all));
  LONGS_EQUAL(17, unpacked.items.size());
  for (std::size_t i = 0; i < 17; ++i) {
    const Unpacked::Item& item = unpacked.items[i];
    const std::size_t held_as = i == 8 ? 3 : i < 8 ? i : i - 9;
    CHECK(item.role == (i < 8 ? Role::kParked : i == 8 ? Role::kContent : Role::kPeer));
    LONGS_EQUAL(i == 8 ? 0 : held_as, item.index);
    LONGS_EQUAL(inode_of(held[held_as].get()), inode_of(item.fd.get()));
  }
}

// As when the descriptor table is full, or a security policy takes one away: the kernel gives those
// of a message up to there, and no more of it.
TEST(Parcel, that_loses_some_takes_no_other_for_them) {
  const std::vector<UniqueFd> held = pipes(400);
  const Parcel parcel =
      pack(kState, "", std::array{as(Role::kSocket, held)[0], as(Role::kPeer, held)[0]});
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  const int first_free = fcntl(held[0].get(), F_DUPFD_CLOEXEC, 0);
  close(first_free);
  const rlimit few{static_cast<rlim_t>(first_free) + 20, before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &few);
  std::size_t sockets = 0;
  std::size_t peers = 0;
  const Unpacked unpacked = unpack(parcel, [&](const Unpacked::Item& item) {
    (item.role == Role::kSocket ? sockets : peers)++;
    LONGS_EQUAL(inode_of(held[item.index].get()), inode_of(item.fd.get()));
  });
  setrlimit(RLIMIT_NOFILE, &before);
  LONGS_EQUAL(2 * held.size(), unpacked.expected);
  CHECK(sockets > 0 && sockets < held.size());
  CHECK(peers > 0 && peers < held.size());
}

// A successor that dies has taken nothing away.
TEST(Parcel, can_be_unpacked_again_and_counts_it) {
  const std::vector<UniqueFd> held = pipes(300);
  const Parcel parcel = pack(kState, "", as(Role::kSocket, held));
  for (std::uint32_t attempt = 1; attempt <= 3; ++attempt) {
    const Unpacked unpacked = unpack(parcel);
    LONGS_EQUAL(attempt, unpacked.attempts);
    LONGS_EQUAL(held.size(), unpacked.items.size());
    LONGS_EQUAL(inode_of(held.front().get()), inode_of(unpacked.items.front().fd.get()));
    CHECK(std::ranges::equal(kState, unpacked.state));
  }
}

TEST(Parcel, may_be_empty) {
  const Unpacked unpacked = unpack(pack({}, "", {}));
  CHECK(unpacked.items.empty() && unpacked.state.empty() && unpacked.configuration.empty());
  LONGS_EQUAL(1, unpacked.attempts);
}

TEST(Parcel, of_something_else_is_empty) {
  std::vector<UniqueFd> ends = pipes(2);
  const Unpacked unpacked = unpack({std::move(ends[0]), std::move(ends[1])});
  CHECK(unpacked.items.empty() && unpacked.state.empty());
  LONGS_EQUAL(0, unpacked.attempts);
}

// More than one pair holds: the same few descriptors, again and again, because what a process may
// have open is less.
TEST(Parcel, holds_more_than_fits_into_one_pair) {
  const std::vector<UniqueFd> held = pipes(2);
  Descriptors all{Role::kSocket, {}};
  std::vector<int>& many = all.in_order;
  while (many.size() < 200'000) many.push_back(held[many.size() % 2].get());
  Parcel parcel;
  try {
    parcel = pack(kState, "", std::array{all});
  } catch (const std::system_error& error) {
    // As an ordinary user: a limit of the kernel's, for what RLIMIT_NOFILE allows to be open.
    LONGS_EQUAL(ETOOMANYREFS, error.code().value());
    return;
  }
  std::size_t count = 0;
  bool in_order = true;
  const std::array<ino_t, 2> inodes{inode_of(held[0].get()), inode_of(held[1].get())};
  const Unpacked unpacked = unpack(parcel, [&](const Unpacked::Item& item) {
    in_order = in_order && item.index == count;
    if (count % 1000 < 2) {
      in_order = in_order && inode_of(item.fd.get()) == inodes[count % 2];
    }
    ++count;
  });
  LONGS_EQUAL(many.size(), count);
  LONGS_EQUAL(many.size(), unpacked.expected);
  CHECK(in_order);
}
