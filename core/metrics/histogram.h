// Percentiles of many durations in constant memory: logarithmic bins, 0.5 % wide.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "core/types.h"

namespace kvstow {

// Exact count and mean; a percentile is the geometric middle of its bin, so within 0.25 %.
// Range 1 microsecond to about 28 hours; what lies outside is counted in the end bins.
class DurationHistogram {
 public:
  void add(Seconds value, std::int64_t count) {
    bins_[bin_of(value)] += count;
    count_ += count;
    sum_ += value * static_cast<double>(count);
  }
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] Seconds mean() const { return count_ ? sum_ / static_cast<double>(count_) : 0; }
  // q in [0, 1].
  [[nodiscard]] Seconds quantile(double q) const {
    if (count_ == 0) return 0;
    const double rank = q * static_cast<double>(count_ - 1);
    std::int64_t below = 0;
    std::size_t bin = 0;
    for (; bin + 1 < kBins; ++bin) {
      below += bins_[bin];
      if (static_cast<double>(below) > rank) break;
    }
    return kFirst * std::exp((static_cast<double>(bin) + 0.5) * kLogRatio);
  }

 private:
  static constexpr Seconds kFirst = 1e-6;
  static constexpr double kLogRatio = 0.004987541511039;  // log(1.005)
  static constexpr std::size_t kBins = 5080;

  [[nodiscard]] std::size_t bin_of(Seconds value) {
    // Consecutive steps often take the same time: a logarithm saved.
    if (value == last_value_) return last_bin_;
    last_value_ = value;
    const double bin = value > kFirst ? std::log(value / kFirst) / kLogRatio : 0.0;
    last_bin_ = bin < double(kBins - 1) ? static_cast<std::size_t>(bin) : kBins - 1;
    return last_bin_;
  }

  std::vector<std::int64_t> bins_ = std::vector<std::int64_t>(kBins, 0);
  std::int64_t count_ = 0;
  double sum_ = 0;
  Seconds last_value_ = -1;
  std::size_t last_bin_ = 0;
};

}  // namespace kvstow
