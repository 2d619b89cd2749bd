// Which rates of a curve to run next, given the mean latencies measured so far. A pure function of
// its arguments, so that a resumed run takes the same way.
#pragma once

#include <map>
#include <vector>

namespace kvstow {

struct SearchConfig {
  // Continue past the listed rates, at their last spacing, until the mean normalised latency has
  // crossed this; 0: run the listed rates only.
  double extend_until_s_per_token = 0;
  // Bisect around the crossing of each of these until the bracket is `refine_share` of the rate.
  std::vector<double> refine_s_per_token;
  double refine_share = 0.02;
  // Then also run these shares of the capacity (the crossing of extend_until_s_per_token).
  std::vector<double> capacity_shares;
};

struct SearchRate {
  double rate_per_s = 0;
  bool refined = false;
  double capacity_share = 0;
};

// `listed`: the curve's own rates, ascending. `measured`: rate -> mean normalised latency over
// seeds. Empty when the curve is done; rates with a capacity_share come last and once.
[[nodiscard]] std::vector<SearchRate> next_rates(const SearchConfig& config,
                                                 const std::vector<double>& listed,
                                                 const std::map<double, double>& measured);

// The rate at which the latency first crosses the threshold, linearly interpolated; negative where
// it never does, or at the first rate already.
[[nodiscard]] double crossing(const std::map<double, double>& measured, double threshold);

}  // namespace kvstow
