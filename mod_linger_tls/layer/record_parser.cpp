// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/layer/record_parser.h"

#include <algorithm>
#include <cstddef>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/record.h"
#include "mod_linger_tls/layer/suite.h"

namespace lingerd::tls {
namespace {

std::size_t length_in(ConstBytes header) {
  return std::size_t{header[3]} << 8 | header[4];
}

}  // namespace

// The version is the same for ever (RFC 8446, 5.1), but for a first ClientHello, which never comes
// here.
std::optional<Alert> RecordParser::objection_to(ConstBytes header) const {
  if (header[1] != 3 || header[2] != 3) return Alert::kDecodeError;
  const auto type = static_cast<ContentType>(header[0]);
  const std::size_t length = length_in(header);
  if (type == ContentType::kApplicationData) {
    if (length > kMaxCiphertext) return Alert::kRecordOverflow;
    if (length < 1 + kTagLength) return Alert::kBadRecordMac;
    return std::nullopt;
  }
  if (stage_ == Stage::kEncrypted || type < ContentType::kChangeCipherSpec ||
      type > ContentType::kApplicationData || length == 0) {
    return Alert::kUnexpectedMessage;
  }
  if (length > kMaxContent) return Alert::kRecordOverflow;
  return std::nullopt;
}

RecordParser::Step RecordParser::next(ConstBytes bytes) {
  if (given_out_) {
    held_.clear();
    given_out_ = false;
  }
  Step step;
  if (held_.empty() && bytes.size() >= kHeaderLength) {
    if (!alert_) alert_ = objection_to(bytes);
    const std::size_t whole = kHeaderLength + length_in(bytes);
    if (!alert_ && bytes.size() >= whole) {
      step.result = Result::kRecord;
      step.used = whole;
      step.record = bytes.first(whole);
      return step;
    }
  }
  if (!alert_) step.used = hold(bytes, kHeaderLength);
  if (!alert_ && held_.size() == kHeaderLength) alert_ = objection_to(held_);
  if (!alert_ && held_.size() >= kHeaderLength) {
    const std::size_t whole = kHeaderLength + length_in(held_);
    step.used += hold(bytes.subspan(step.used), whole);
    given_out_ = held_.size() == whole;
  }
  if (given_out_) {
    step.result = Result::kRecord;
    step.record = held_;
  } else if (alert_) {
    step.result = Result::kBad;
    step.alert = *alert_;
  }
  return step;
}

// So many that `most` are held.
std::size_t RecordParser::hold(ConstBytes bytes, std::size_t most) {
  const std::size_t now = std::min(bytes.size(), most - std::min(most, held_.size()));
  if (held_.capacity() < most) held_.reserve(most);
  held_.insert(held_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(now));
  return now;
}

}  // namespace lingerd::tls
