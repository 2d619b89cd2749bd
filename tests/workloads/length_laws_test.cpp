// The synthetic laws against the published means and their own tables. Run with
// --gtest_filter='*Means*' to see the means that the README states.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/workloads/helpers.h"
#include "workloads/quantile_tables.h"

namespace kvstow::test {
namespace {

constexpr int kDraws = 1'000'000;

struct Sample {
  std::vector<int> prompt, output;
};

Sample sample(LengthLaw law, int draws = kDraws) {
  Sample result;
  auto workload = make_workload(batch_of(law, draws), 1);
  while (const auto request = workload->next()) {
    result.prompt.push_back(static_cast<int>(request->prompt.count()));
    result.output.push_back(static_cast<int>(request->output.count()));
  }
  return result;
}

double mean(const std::vector<int>& values) {
  return moments({values.begin(), values.end()}).mean;
}

// Average ranks (ties share theirs), then Pearson's r: Spearman's rho.
double rank_correlation(const Sample& s) {
  const auto ranks = [](const std::vector<int>& values) {
    std::vector<double> below(static_cast<std::size_t>(*std::ranges::max_element(values)) + 2);
    for (const int v : values) ++below[v + 1];
    for (std::size_t i = 1; i < below.size(); ++i) below[i] += below[i - 1];
    std::vector<double> result;
    for (const int v : values) result.push_back((below[v] + below[v + 1]) / 2);
    return result;
  };
  const std::vector<double> x = ranks(s.prompt), y = ranks(s.output);
  const Moments mx = moments(x), my = moments(y);
  double product = 0;
  for (std::size_t i = 0; i < x.size(); ++i) product += (x[i] - mx.mean) * (y[i] - my.mean);
  return product / static_cast<double>(x.size() - 1) / (mx.sd * my.sd);
}

// A draw is a table's value rounded, so at each knot (q, x): P(X < x) <= q <= P(X <= x), up to the
// sampling error of a share, at most 0.5 / sqrt(n).
void expect_follows(std::vector<int> draws, const QuantileTable& table) {
  std::ranges::sort(draws);
  const auto n = static_cast<double>(draws.size());
  const double error = 5 * 0.5 / std::sqrt(n);
  for (std::size_t knot = 0; knot < kQuantiles; ++knot) {
    const double q = QuantileTable::quantile(knot);
    const auto [low, high] = std::equal_range(draws.begin(), draws.end(), table.knot(knot));
    EXPECT_LE(static_cast<double>(low - draws.begin()) / n, q + error) << "knot " << q;
    EXPECT_GE(static_cast<double>(high - draws.begin()) / n, q - error) << "knot " << q;
  }
}

TEST(SharegptLaw, MeansAreThePapers) {
  const Sample s = sample(LengthLaw::sharegpt);
  fmt::print("[ measured ] sharegpt means {:.2f} / {:.2f}\n", mean(s.prompt), mean(s.output));
  // Within 1 %; the standard errors of a million draws are 0.19 % and 0.08 %.
  EXPECT_NEAR(mean(s.prompt), 161.31, 0.01 * 161.31);
  EXPECT_NEAR(mean(s.output), 337.99, 0.01 * 337.99);
}

TEST(SharegptLaw, StaysWithinTheModelLength) {
  const Sample s = sample(LengthLaw::sharegpt, 100'000);
  for (std::size_t i = 0; i < s.prompt.size(); ++i) {
    ASSERT_GE(s.prompt[i], 1);
    ASSERT_GE(s.output[i], 1);
    ASSERT_LE(s.prompt[i] + s.output[i], 2048);
  }
}

TEST(SharegptLaw, FollowsItsTables) {
  Sample s = sample(LengthLaw::sharegpt);
  expect_follows(s.prompt, kSharegptPrompt);
  // The redraw shortens the longest outputs and the scale lengthens all of them: the law follows
  // its table within a point, not exactly.
  std::ranges::sort(s.output);
  for (std::size_t knot = 0; knot < kQuantiles; ++knot) {
    const auto end = std::ranges::upper_bound(s.output, kSharegptOutput.knot(knot));
    EXPECT_NEAR(static_cast<double>(end - s.output.begin()) / kDraws, QuantileTable::quantile(knot),
                0.01);
  }
}

TEST(SharegptLaw, KeepsThePromptBehindAnOutputToken) {
  const Sample s = sample(LengthLaw::sharegpt);
  double products = 0, outputs = 0;
  for (std::size_t i = 0; i < s.prompt.size(); ++i) {
    products += double(s.prompt[i]) * s.output[i];
    outputs += s.output[i];
  }
  fmt::print("[ measured ] sharegpt prompt per output token {:.2f}\n", products / outputs);
  // E[prompt * output] / E[output] of the length file; the standard error is 0.3 %.
  EXPECT_NEAR(products / outputs, 171.48, 0.01 * 171.48);
}

TEST(AlpacaLaw, MeansAreThePapers) {
  const Sample s = sample(LengthLaw::alpaca);
  fmt::print("[ measured ] alpaca means {:.2f} / {:.2f}\n", mean(s.prompt), mean(s.output));
  // Within 1 %; the standard errors of a million draws are 0.07 % and 0.11 %.
  EXPECT_NEAR(mean(s.prompt), 19.31, 0.01 * 19.31);
  EXPECT_NEAR(mean(s.output), 58.45, 0.01 * 58.45);
}

TEST(AlpacaLaw, FollowsItsTablesAndCorrelation) {
  const Sample s = sample(LengthLaw::alpaca);
  expect_follows(s.prompt, kAlpacaPrompt);
  expect_follows(s.output, kAlpacaOutput);
  // The error of a rank correlation is 1 / sqrt(n) = 0.001; short prompts come in few values, whose
  // ties take up to another 0.01.
  EXPECT_NEAR(rank_correlation(s), -0.24, 0.014);
}

TEST(WmtLaw, FollowsItsTablesAndCorrelation) {
  const Sample s = sample(LengthLaw::wmt_ende);
  fmt::print("[ measured ] wmt-ende means {:.2f} / {:.2f}\n", mean(s.prompt), mean(s.output));
  expect_follows(s.prompt, kWmtSource);
  expect_follows(s.output, kWmtTarget);
  EXPECT_NEAR(rank_correlation(s), 0.857, 0.014);
  EXPECT_NEAR(mean(s.prompt), 28.00, 0.01 * 28.00);
  EXPECT_NEAR(mean(s.output), 38.47, 0.01 * 38.47);
}

TEST(FixedLengths, AreWhatTheConfigSays) {
  WorkloadConfig config = batch_of(LengthLaw::fixed, 3);
  config.fixed_prompt = Tokens(100);
  config.fixed_output = Tokens(20);
  for (const Request& request : trace_of(config)) {
    EXPECT_EQ(request.prompt, Tokens(100));
    EXPECT_EQ(request.output, Tokens(20));
  }
}

TEST(FixedLengths, SpreadTheOutputsByTheirCv) {
  for (const double cv : {0.2, 1.0}) {
    WorkloadConfig config = batch_of(LengthLaw::fixed, 100'000);
    config.fixed_prompt = Tokens(100);
    config.fixed_output = Tokens(300);
    config.output_cv = cv;
    config.max_model_len = Tokens(1 << 20);
    std::vector<double> outputs;
    for (const Request& r : trace_of(config)) {
      ASSERT_EQ(r.prompt, Tokens(100));
      outputs.push_back(static_cast<double>(r.output.count()));
    }
    const Moments m = moments(outputs);
    EXPECT_NEAR(m.mean, 300, 4 * 300 * cv / std::sqrt(1e5));
    EXPECT_NEAR(m.sd / m.mean, cv, 0.02 * cv);  // four standard errors: 1.8 % at cv 1
  }
}

}  // namespace
}  // namespace kvstow::test
