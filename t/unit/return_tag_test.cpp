// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/return_tag.h"

#include <sys/socket.h>

#include <cstdint>
#include <set>
#include <utility>

#include "base/unique_fd.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd;

namespace {

TaggedConnection connection() {
  TaggedConnection out;
  out.cookie = 42;
  out.local = {{127, 0, 0, 1}, 0, 80, AF_INET};
  out.client = {{192, 0, 2, 1}, 0, 40'000, AF_INET};
  out.keepalives = 3;
  out.keepalive_ms = 5'000;
  return out;
}

constexpr ReturnKey kKey{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

}  // namespace

TEST_GROUP(return_tag){};

TEST(return_tag, is_the_same_for_the_same) {
  CHECK(tag_of(connection(), kKey) == tag_of(connection(), kKey));
}

TEST(return_tag, is_another_one_if_anything_is_different) {
  std::set<std::uint64_t> tags{tag_of(connection(), kKey)};
  const auto with = [&](auto change) {
    TaggedConnection changed = connection();
    change(changed);
    return tags.insert(tag_of(changed, kKey)).second;
  };
  CHECK(with([](TaggedConnection& c) { ++c.cookie; }));
  CHECK(with([](TaggedConnection& c) { ++c.local.port; }));
  CHECK(with([](TaggedConnection& c) { ++c.local.address[3]; }));
  CHECK(with([](TaggedConnection& c) { c.local.family = AF_INET6; }));
  CHECK(with([](TaggedConnection& c) { ++c.client.port; }));
  CHECK(with([](TaggedConnection& c) { ++c.client.address[0]; }));
  CHECK(with([](TaggedConnection& c) { ++c.client.scope; }));
  CHECK(with([](TaggedConnection& c) { --c.keepalives; }));
  CHECK(with([](TaggedConnection& c) { ++c.keepalive_ms; }));
  CHECK(with([](TaggedConnection& c) { std::swap(c.local, c.client); }));
  ReturnKey other = kKey;
  ++other[15];
  CHECK(tags.insert(tag_of(connection(), other)).second);
}

TEST(return_tag, each_socket_has_a_number_of_its_own_which_copies_share) {
  const UniqueFd one(socket(AF_INET, SOCK_STREAM, 0));
  const UniqueFd two(socket(AF_INET, SOCK_STREAM, 0));
  const UniqueFd copy(dup(one.get()));
  CHECK(cookie_of(one.get()).has_value());
  CHECK(*cookie_of(one.get()) == *cookie_of(copy.get()));
  CHECK(*cookie_of(one.get()) != *cookie_of(two.get()));
  CHECK(!cookie_of(-1));
}
