// SPDX-License-Identifier: Apache-2.0
// Records out of a stream of bytes, which come as they like. Never holds more than one record, nor
// looks at what is behind one.
#pragma once

#include <cstddef>
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

  // Takes bytes up to a record's end, and says how many. Bad stays bad.
  [[nodiscard]] Step next(ConstBytes bytes);

  void set_stage(Stage stage) { stage_ = stage; }
  // Nothing of a record has come.
  bool empty() const { return held_.empty(); }

 private:
  bool header_is_good(const unsigned char* header, Alert& alert) const;

  Stage stage_;
  bool bad_ = false;
  Alert alert_{};
  bool given_out_ = false;  // what is held was the last answer
  std::vector<unsigned char> held_;
};

}  // namespace lingerd::tls
