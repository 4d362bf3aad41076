// SPDX-License-Identifier: Apache-2.0
// systemd's descriptor store, which keeps a parcel for the lingerd that is started next.
//
// What it has taken is proven: behind the parcel goes the end of a pair; if the other end hangs up,
// nothing holds it. A store with no room, or a proxy of the notify socket, says nothing else.
#pragma once

#include <string>

#include "lingerd/succession/parcel.h"

namespace lingerd {

// True when it has taken the parcel, proven: then this process may end.
[[nodiscard]] bool store_with_systemd(const Parcel& parcel, std::string& problem);
void empty_the_store();
[[nodiscard]] bool started_by_systemd();

}  // namespace lingerd
