// SPDX-License-Identifier: Apache-2.0
// A log-linear histogram, as HdrHistogram's: each power of two is cut into 128 equal parts, so that
// any 64-bit value is kept with an error under 0.8 %. (Debian has no C library of HdrHistogram.)
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace ablinger {

class Histogram {
 public:
  void record(std::uint64_t value) {
    ++buckets_[index(value)];
    ++count_;
    sum_ += value;
    min_ = std::min(min_, value);
    max_ = std::max(max_, value);
  }

  void merge(const Histogram& other) {
    for (std::size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
    count_ += other.count_;
    sum_ += other.sum_;
    min_ = std::min(min_, other.min_);
    max_ = std::max(max_, other.max_);
  }

  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::uint64_t min() const { return count_ > 0 ? min_ : 0; }
  [[nodiscard]] std::uint64_t max() const { return max_; }
  [[nodiscard]] double mean() const {
    return count_ > 0 ? static_cast<double>(sum_) / static_cast<double>(count_) : 0.0;
  }

  // The value that `percent` of all values don't exceed, 0 if there is none.
  [[nodiscard]] std::uint64_t percentile(double percent) const {
    const auto wanted =
        static_cast<std::uint64_t>(std::ceil(static_cast<double>(count_) * percent / 100.0));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      seen += buckets_[i];
      if (seen > 0 && seen >= wanted) return std::min(highest_in(i), max_);
    }
    return max_;
  }

 private:
  static constexpr unsigned kPartBits = 7;
  static constexpr std::uint64_t kLinear = 2U
                                           << kPartBits;  // below it each value has its own place

  static constexpr std::size_t index(std::uint64_t value) {
    if (value < kLinear) return value;
    const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - (kPartBits + 1);
    return (std::size_t{shift} << kPartBits) + (value >> shift);
  }
  static constexpr std::uint64_t highest_in(std::size_t i) {
    if (i < kLinear) return i;
    const std::size_t shift = (i >> kPartBits) - 1;
    const std::uint64_t part = i - (shift << kPartBits);
    return ((part + 1) << shift) - 1;
  }

  std::array<std::uint64_t, (57U << kPartBits) + (1U << kPartBits)> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t sum_ = 0;
  std::uint64_t min_ = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t max_ = 0;
};

}  // namespace ablinger
