// SPDX-License-Identifier: Apache-2.0
// Bytes as OpenSSL has them.
#pragma once

#include <span>

namespace lingerd::tls {

using Bytes = std::span<unsigned char>;
using ConstBytes = std::span<const unsigned char>;

}  // namespace lingerd::tls
