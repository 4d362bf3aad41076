// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/last_record.h"

#include <openssl/crypto.h>

#include <algorithm>

#include "mod_linger_tls/layer/hkdf.h"
#include "mod_linger_tls/layer/protection.h"
#include "mod_linger_tls/layer/record.h"

namespace lingerd::tls {

std::size_t LastRecord::length() const {
  if (record_.size() < kHeaderLength) return kHeaderLength;
  return kHeaderLength + (std::size_t{record_[3]} << 8 | record_[4]);
}

bool LastRecord::is_whole() const {
  return record_.size() >= kHeaderLength && record_.size() == length();
}

void LastRecord::follow(ConstBytes bytes) {
  while (!bytes.empty()) {
    if (is_whole()) record_.clear();
    const std::size_t taken = std::min(length() - record_.size(), bytes.size());
    record_.insert(record_.end(), bytes.begin(),
                   bytes.begin() + static_cast<std::ptrdiff_t>(taken));
    bytes = bytes.subspan(taken);
  }
}

bool LastRecord::is_before(const Direction& next, const Suite& suite) const {
  return open(next, suite).has_value();
}

bool LastRecord::is_padded(const Direction& next, const Suite& suite) const {
  const std::optional<std::size_t> content = open(next, suite);
  return content && kOverhead + *content != record_.size();
}

std::optional<std::size_t> LastRecord::open(const Direction& next, const Suite& suite) const {
  if (!is_whole() || record_.size() > kMaxRecord || next.sequence == 0) return std::nullopt;
  Direction last = next;
  --last.sequence;
  Hkdf hkdf(suite);
  RecordOpener opener;
  if (!opener.start(hkdf, last)) return std::nullopt;
  std::vector<unsigned char> content(record_.size());
  const RecordOpener::Opened opened = opener.open(record_, content);
  OPENSSL_cleanse(content.data(), content.size());
  return opened.good ? std::optional(opened.length) : std::nullopt;
}

}  // namespace lingerd::tls
