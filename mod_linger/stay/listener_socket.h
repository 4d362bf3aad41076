// SPDX-License-Identifier: Apache-2.0
// The private listener as a file and a socket, without httpd: a Unix stream socket in a directory
// that only httpd's parent may enter. lingerd gets there through a descriptor.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/unique_fd.h"

namespace lingerd {

struct ReturnListener {
  UniqueFd socket;        // listening
  UniqueFd name;          // O_PATH
  std::string directory;  // that it is in
};

// Makes linger.PID/return.sock in httpd's runtime directory, and removes what httpds that were
// killed have left there. False: `problem` says why, and what to do.
[[nodiscard]] bool make_return_listener(const std::string& runtime_directory, pid_t pid,
                                        ReturnListener& out, std::string& problem);
void remove_return_listener(const char* directory) noexcept;

}  // namespace lingerd
