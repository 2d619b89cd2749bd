// Length distributions as inverse CDFs on one grid of quantiles: 0, 0.01, ..., 0.99, 0.995,
// 0.999, 1.
//
// A table is the sample quantile (linear between order statistics, rounded to a whole token) of a
// public set of lengths; the sources are named beside the figures in quantile_tables.cpp, and the
// tests recompute the tables where the sets are at hand.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace kvstow {

inline constexpr std::size_t kQuantiles = 103;

class QuantileTable {
 public:
  explicit constexpr QuantileTable(const std::array<std::uint16_t, kQuantiles>& tokens)
      : tokens_(tokens) {}

  // The quantile of knot i, in [0, 1].
  [[nodiscard]] static constexpr double quantile(std::size_t knot) {
    if (knot < 100) return static_cast<double>(knot) * 0.01;
    return knot == 100 ? 0.995 : knot == 101 ? 0.999 : 1;
  }

  // The length at quantile u in [0, 1], linear between the knots, not rounded: tokens.
  [[nodiscard]] constexpr double at(double u) const {
    if (u < 0.99) {
      const double position = u * 100;
      const auto knot = static_cast<std::size_t>(position);
      return between(knot, position - static_cast<double>(knot));
    }
    if (u < 0.995) return between(99, (u - 0.99) * (1 / 0.005));
    if (u < 0.999) return between(100, (u - 0.995) * (1 / 0.004));
    return between(101, (u - 0.999) * (1 / 0.001));
  }

  [[nodiscard]] constexpr int knot(std::size_t i) const { return tokens_[i]; }

 private:
  [[nodiscard]] constexpr double between(std::size_t knot, double weight) const {
    const double low = tokens_[knot];
    return low + weight * (static_cast<double>(tokens_[knot + 1]) - low);
  }

  const std::array<std::uint16_t, kQuantiles>& tokens_;
};

extern const QuantileTable kSharegptPrompt, kSharegptOutput;
extern const QuantileTable kAlpacaPrompt, kAlpacaOutput;
extern const QuantileTable kWmtSource, kWmtTarget;

}  // namespace kvstow
