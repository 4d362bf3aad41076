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
  if (!is_whole() || record_.size() > kMaxRecord || next.sequence == 0) return false;
  Direction last = next;
  --last.sequence;
  Hkdf hkdf(suite);
  RecordOpener opener;
  if (!opener.start(hkdf, last)) return false;
  std::vector<unsigned char> content(record_.size());
  const bool good = opener.open(record_, content).good;
  OPENSSL_cleanse(content.data(), content.size());
  return good;
}

}  // namespace lingerd::tls
