// SPDX-License-Identifier: Apache-2.0
// What the features that give connections to lingerd for a while have in common: the private
// listener by which they come back, and what may go at all.
#pragma once

namespace lingerd {

// Before the features' own.
void register_stays();

}  // namespace lingerd
