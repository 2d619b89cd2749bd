#include "bench/experiment/search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>

namespace kvstow {
namespace {

// Runs the search to its end against a latency law; returns the measured curve.
std::map<double, double> run_search(const SearchConfig& config, const std::vector<double>& listed,
                                    double (*latency)(double)) {
  std::map<double, double> measured;
  for (int round = 0; round < 100; ++round) {
    const std::vector<SearchRate> next = next_rates(config, listed, measured);
    if (next.empty()) return measured;
    for (const SearchRate& rate : next) {
      if (rate.capacity_share > 0) return measured;
      measured[rate.rate_per_s] = latency(rate.rate_per_s);
    }
  }
  ADD_FAILURE() << "the search does not end";
  return measured;
}

double hockey_stick(double rate) {
  return rate < 2.33 ? 0.05 : 0.05 + 4 * (rate - 2.33);
}

TEST(Search, WithoutASearchOnlyTheListedRatesRun) {
  EXPECT_EQ(run_search({}, {1, 2, 3}, hockey_stick).size(), 3U);
}

TEST(Search, ExtendsAtTheLastSpacingUntilCrossed) {
  const auto curve = run_search({.extend_until_s_per_token = 0.5}, {1, 1.5, 1.7}, hockey_stick);
  // 1.9, 2.1, 2.3 lie below 0.5 s/token, 2.5 above; nothing further is run.
  ASSERT_EQ(curve.size(), 7U);
  EXPECT_EQ(curve.rbegin()->first, 2.5);
}

TEST(Search, RefinesTheBracketOfEachLevel) {
  const SearchConfig config = {
      .extend_until_s_per_token = 0.5, .refine_s_per_token = {0.2, 0.5}, .refine_share = 0.02};
  const auto curve = run_search(config, {1, 2}, hockey_stick);
  for (const double level : {0.2, 0.5}) {
    const auto high = std::find_if(curve.begin(), curve.end(),
                                   [&](const auto& point) { return point.second >= level; });
    EXPECT_LE(high->first - std::prev(high)->first, 0.02 * high->first);
    EXPECT_NEAR(crossing(curve, level), 2.33 + (level - 0.05) / 4, 0.03);
  }
}

TEST(Search, AsksForSharesOfTheCapacityLast) {
  const SearchConfig config = {.extend_until_s_per_token = 0.5, .capacity_shares = {0.5, 0.9}};
  const std::map<double, double> measured = {{1, 0.1}, {2, 0.9}};
  const auto next = next_rates(config, {1, 2}, measured);
  ASSERT_EQ(next.size(), 2U);
  EXPECT_DOUBLE_EQ(next[0].rate_per_s, 0.75);
  EXPECT_DOUBLE_EQ(next[1].rate_per_s, 1.35);
  EXPECT_EQ(next[1].capacity_share, 0.9);
}

TEST(Search, EndsWhereTheThresholdIsNeverCrossed) {
  const auto flat = [](double) { return 0.01; };
  EXPECT_EQ(run_search({.extend_until_s_per_token = 0.5}, {1, 2}, flat).size(), 26U);
}

TEST(Crossing, IsInterpolatedOrAbsent) {
  EXPECT_DOUBLE_EQ(crossing({{1, 0}, {2, 1}}, 0.25), 1.25);
  EXPECT_LT(crossing({{1, 0}, {2, 0.1}}, 0.25), 0);
  EXPECT_LT(crossing({{1, 0.5}, {2, 1}}, 0.25), 0);
}

}  // namespace
}  // namespace kvstow
