// SPDX-License-Identifier: Apache-2.0
// Records out of a stream of bytes, which come as they like. Never holds more than one record, nor
// looks at what is behind one.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/record.h"

namespace lingerd::tls {

class RecordParser {
 public:
  // kEncrypted: nothing but TLSCiphertext is let through (type 23, version 0x0303). kHandshake:
  // handshake, alert, ChangeCipherSpec in the clear as well, as while two sides still greet each
  // other.
  enum class Stage { kHandshake, kEncrypted };
  enum class Result { kNeedsMore, kRecord, kBad };

  struct Step {
    Result result = Result::kNeedsMore;
    std::size_t used = 0;  // of the bytes given
    ConstBytes
        record{};   // kRecord: with its header. Valid until the next call, as the bytes given are
    Alert alert{};  // kBad: what the other side is told
  };

  explicit RecordParser(Stage stage) : stage_(stage) {}

  // Takes bytes up to a record's end, and says how many. What is bad stays so.
  [[nodiscard]] Step next(ConstBytes bytes);

  void set_stage(Stage stage) { stage_ = stage; }
  // Nothing of a next record has come.
  bool empty() const { return held_.empty() || given_out_; }

 private:
  [[nodiscard]] std::optional<Alert> objection_to(ConstBytes header) const;
  std::size_t hold(ConstBytes bytes, std::size_t most);

  Stage stage_;
  std::optional<Alert> alert_;  // of what was bad
  bool given_out_ = false;      // what is held was the last answer
  std::vector<unsigned char> held_;
};

}  // namespace lingerd::tls
