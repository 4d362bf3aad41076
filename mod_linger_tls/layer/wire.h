// SPDX-License-Identifier: Apache-2.0
// Numbers and vectors as TLS writes them: big-endian, a length before each vector. A reader that
// has run out of bytes says so at the end, and gives zeros until then.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "mod_linger_tls/layer/bytes.h"

namespace lingerd::tls {

inline ConstBytes bytes_of(std::string_view text) {
  return {reinterpret_cast<const unsigned char*>(text.data()), text.size()};
}

inline std::string_view text_of(ConstBytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline bool same(ConstBytes one, ConstBytes other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end());
}

class Reader {
 public:
  explicit Reader(ConstBytes bytes) : left_(bytes) {}

  std::uint64_t number(std::size_t width) {
    std::uint64_t out = 0;
    for (const unsigned char each : bytes(width)) out = out << 8 | each;
    return out;
  }
  ConstBytes bytes(std::size_t length) {
    if (length > left_.size()) {
      good_ = false;
      left_ = {};
      return {};
    }
    const ConstBytes out = left_.first(length);
    left_ = left_.subspan(length);
    return out;
  }
  // With its length before it, in `width` bytes.
  ConstBytes vector(std::size_t width) { return bytes(number(width)); }

  bool good() const { return good_; }
  bool at_end() const { return left_.empty(); }
  std::size_t left() const { return left_.size(); }

 private:
  ConstBytes left_;
  bool good_ = true;
};

// Into a buffer that is there, so that no secret moves through the heap.
class Writer {
 public:
  explicit Writer(Bytes out) : out_(out) {}

  void number(std::uint64_t value, std::size_t width) {
    std::array<unsigned char, sizeof value> bytes;
    for (std::size_t i = 0; i < width; ++i) {
      bytes[i] = static_cast<unsigned char>(value >> (8 * (width - 1 - i)));
    }
    this->bytes({bytes.data(), width});
  }
  void bytes(ConstBytes bytes) {
    good_ = good_ && bytes.size() <= out_.size() - length_;
    if (!good_) return;
    std::copy(bytes.begin(), bytes.end(), out_.begin() + static_cast<std::ptrdiff_t>(length_));
    length_ += bytes.size();
  }
  void vector(ConstBytes bytes, std::size_t width) {
    number(bytes.size(), width);
    this->bytes(bytes);
  }
  // A vector whose length is known later: where it begins, and that it ends here.
  std::size_t open(std::size_t width) {
    number(0, width);
    return length_;
  }
  void close(std::size_t begin, std::size_t width) {
    Writer length(good_ ? out_.subspan(begin - width, width) : Bytes{});
    length.number(length_ - begin, width);
  }

  // 0: there wasn't room for all of it.
  std::size_t length() const { return good_ ? length_ : 0; }

 private:
  Bytes out_;
  std::size_t length_ = 0;
  bool good_ = true;
};

}  // namespace lingerd::tls
