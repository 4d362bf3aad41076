// SPDX-License-Identifier: Apache-2.0
// The private listener as a file and a socket, without httpd: a Unix stream socket in a directory
// that only httpd's parent may enter. lingerd gets there through a descriptor.
#pragma once

#include <string>

#include "lingerd/unique_fd.h"

namespace lingerd {

struct ReturnListener {
  UniqueFd socket;  // listening
  UniqueFd name;    // O_PATH
};

// Makes directory/return.sock. False: `problem` says why.
[[nodiscard]] bool make_return_listener(const std::string& directory, ReturnListener& out,
                                        std::string& problem);
void remove_return_listener(const std::string& directory);

}  // namespace lingerd
