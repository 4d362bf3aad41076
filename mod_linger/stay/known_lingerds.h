// SPDX-License-Identifier: Apache-2.0
// Which users' processes are lingerds.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <sys/types.h>

namespace lingerd {

// By post_config: where LingerSocket is another one than before, the lingerd there may still bring
// back what it was given.
void learn_lingerds(server_rec* server);

[[nodiscard]] bool is_lingerd(uid_t user);

}  // namespace lingerd
