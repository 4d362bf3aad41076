// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/file_systems.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <vector>

#include "base/unique_fd.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd;

TEST_GROUP(FileSystems){};

TEST(FileSystems, lines_of_mountinfo) {
  const std::vector<Mount> mounts = parse_mounts(
      "36 35 98:3 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n"
      "37 36 0:50 / /a\\040b rw - fuse.sshfs host:/dir rw,user_id=0\n"
      "no mount at all\n"
      "38 36 x:1 / /c rw - ext4 d rw\n"
      "39 36 0:51 / /d rw - overlay overlay rw,lowerdir=/l1:/l2,upperdir=/u,workdir=/w");
  LONGS_EQUAL(3, mounts.size());
  LONGS_EQUAL(makedev(98, 3), mounts[0].device);
  CHECK(mounts[0].point == "/mnt2" && mounts[0].type == "ext3");
  CHECK(mounts[1].point == "/a b" && mounts[1].type == "fuse.sshfs");
  CHECK(mounts[2].options == "rw,lowerdir=/l1:/l2,upperdir=/u,workdir=/w");
}

TEST(FileSystems, garbage_is_no_mount) {
  CHECK(parse_mounts("").empty());
  CHECK(parse_mounts("\n\n - \n1 2 3:").empty());
}

TEST(FileSystems, what_is_on_no_mount_is_unknown) {
  const UniqueFd memory(memfd_create("x", MFD_CLOEXEC));
  CHECK(file_systems().kind_of(memory.get()) == FileSystems::Kind::kUnknown);
  const UniqueFd proc(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  CHECK(file_systems().kind_of(proc.get()) == FileSystems::Kind::kUnknown);
  CHECK(!file_systems().socket_at(memory.get()));
}
