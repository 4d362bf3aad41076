// SPDX-License-Identifier: Apache-2.0
// httpd and APR are C: nothing may be thrown through them. C++ throws where memory runs out.
#pragma once

#include <type_traits>

namespace lingerd {

// guarded<callback, value>: the callback, which returns `value` where it would throw.
template <auto kCallback, auto kOtherwise>
struct Guarded;

template <typename Result, typename... Arguments, Result (*kCallback)(Arguments...),
          auto kOtherwise>
struct Guarded<kCallback, kOtherwise> {
  static Result call(Arguments... arguments) noexcept {
    try {
      return kCallback(arguments...);
    } catch (...) {
      if constexpr (!std::is_void_v<Result>) return kOtherwise;
    }
  }
};

template <auto kCallback, auto kOtherwise = 0>
inline constexpr auto guarded = &Guarded<kCallback, kOtherwise>::call;

}  // namespace lingerd
