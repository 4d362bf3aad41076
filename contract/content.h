// SPDX-License-Identifier: Apache-2.0
// What may hold the rest of a response on its way to lingerd: a memfd that nobody can change any
// more, or a regular file that is open for reading only. The module asks before it offers one,
// lingerd before it takes it.
#pragma once

#include <sys/stat.h>

#include <cstdint>

namespace lingerd {

// Neither question reaches a file system.
[[nodiscard]] bool is_sealed(int fd);
[[nodiscard]] bool is_for_reading_only(int fd);

// Whether it is a regular file that has all of the rest.
[[nodiscard]] bool has_rest(const struct stat& file, std::uint64_t offset, std::uint64_t length);

// For ever. True: it is sealed now, by this call or an earlier one.
[[nodiscard]] bool seal(int memfd);

}  // namespace lingerd
