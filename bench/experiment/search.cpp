#include "bench/experiment/search.h"

#include <cmath>
#include <iterator>

namespace kvstow {
namespace {

constexpr int kMostExtensions = 24;

// Rates are decimal numbers of the user's; sums of them must not end in ...0001.
double tidy(double rate) {
  return std::round(rate * 1e6) / 1e6;
}

// First rate at or above the threshold; end() where there is none.
auto first_above(const std::map<double, double>& measured, double threshold) {
  auto it = measured.begin();
  while (it != measured.end() && it->second < threshold) ++it;
  return it;
}

}  // namespace

double crossing(const std::map<double, double>& measured, double threshold) {
  const auto high = first_above(measured, threshold);
  if (high == measured.end() || high == measured.begin()) return -1;
  const auto low = std::prev(high);
  const double share = (threshold - low->second) / (high->second - low->second);
  return low->first + share * (high->first - low->first);
}

std::vector<SearchRate> next_rates(const SearchConfig& config, const std::vector<double>& listed,
                                   const std::map<double, double>& measured) {
  std::vector<SearchRate> next;
  for (const double rate : listed) {
    if (!measured.count(rate)) next.push_back({rate});
  }
  if (!next.empty() || listed.empty()) return next;

  const double threshold = config.extend_until_s_per_token;
  if (threshold > 0 && first_above(measured, threshold) == measured.end()) {
    const double last = listed.back();
    const double spacing = listed.size() > 1 ? last - listed[listed.size() - 2] : last;
    for (int i = 1; i <= kMostExtensions; ++i) {
      const double rate = tidy(last + i * spacing);
      if (!measured.count(rate)) return {{rate}};
    }
  }

  for (const double level : config.refine_s_per_token) {
    const auto high = first_above(measured, level);
    if (high == measured.end()) continue;
    const double low = high == measured.begin() ? 0 : std::prev(high)->first;
    if (high->first - low <= config.refine_share * high->first) continue;
    const double middle = tidy((low + high->first) / 2);
    const bool asked = !next.empty() && next.back().rate_per_s == middle;
    if (!measured.count(middle) && !asked) next.push_back({middle, true});
  }
  if (!next.empty()) return next;

  const double capacity = crossing(measured, threshold);
  for (const double share : config.capacity_shares) {
    if (capacity > 0) next.push_back({tidy(share * capacity), true, share});
  }
  return next;
}

}  // namespace kvstow
