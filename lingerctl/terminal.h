// SPDX-License-Identifier: Apache-2.0
// The terminal of `lingerctl top`: keys one at a time, a frame drawn over the last one, and all as
// it was when it ends, by a key or by a signal.
#pragma once

#include <termios.h>

#include <string>

namespace lingerd {

class Terminal {
 public:
  Terminal();  // asks stdin and stdout what they are
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // Without cursor movement ($TERM unset or "dumb") frames come one below the other.
  void draw(const std::string& frame);

  enum class Event { kTime, kRefresh, kQuit };
  // Waits for a key, a signal, or at most `milliseconds`.
  [[nodiscard]] Event wait(int milliseconds);

 private:
  void take_keys();
  void give_back();
  [[nodiscard]] Event key();

  bool moves_ = false;
  bool has_keys_ = false;
  bool drawn_ = false;
  termios before_{};
};

}  // namespace lingerd
