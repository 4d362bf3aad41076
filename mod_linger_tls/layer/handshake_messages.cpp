// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/layer/handshake_messages.h"

#include <cstddef>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/wire.h"

namespace lingerd::tls {
namespace {

constexpr std::size_t kMessageHeader = 4;

}  // namespace

void HandshakeMessages::add(ConstBytes content) {
  held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(at_));
  at_ = 0;
  held_.insert(held_.end(), content.begin(), content.end());
}

// Of the next message, with its header; 0 until that is there.
std::size_t HandshakeMessages::length() const {
  const ConstBytes left = ConstBytes(held_).subspan(at_);
  if (left.size() < kMessageHeader) return 0;
  return kMessageHeader + Reader(left.subspan(1)).number(3);
}

bool HandshakeMessages::too_long() const {
  return length() > most_;
}

bool HandshakeMessages::next(Message& message) {
  const std::size_t whole = length();
  if (whole == 0 || whole > most_ || whole > held_.size() - at_) return false;
  message.whole = ConstBytes(held_).subspan(at_, whole);
  message.body = message.whole.subspan(kMessageHeader);
  message.type = static_cast<HandshakeType>(message.whole[0]);
  at_ += whole;
  message.ends_record = at_ == held_.size();
  return true;
}

}  // namespace lingerd::tls
