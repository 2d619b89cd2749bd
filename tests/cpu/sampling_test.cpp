#include "core/exec/rows/sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "core/check.h"
#include "tests/kernels/random_floats.h"

namespace kvstow {
namespace {

using ::testing::ElementsAre;

std::vector<double> probabilities(std::span<const float> logits, double temperature) {
  std::vector<double> p;
  for (const float x : logits) p.push_back(std::exp(double{x} / temperature));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

// How often each token is drawn, over equally spaced uniforms: exact up to 1 / draws per token.
std::vector<double> shares(std::span<const float> logits, const SamplingConfig& config) {
  constexpr int kDraws = 20000;
  std::vector<double> share(logits.size(), 0);
  for (int i = 0; i < kDraws; ++i) {
    const DrawnToken drawn = draw_token(logits, config, (i + 0.5) / kDraws);
    share[static_cast<std::size_t>(drawn.token)] += 1.0 / kDraws;
  }
  return share;
}

void expect_shares(std::span<const float> logits, const SamplingConfig& config,
                   const std::vector<double>& want) {
  const std::vector<double> got = shares(logits, config);
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 2e-4) << "token " << i;
}

const std::vector<float> kLogits = {0.5f, 2.0f, -1.0f, 2.0f, 1.0f, -30.0f};

TEST(Sampling, GreedyTakesTheFirstOfTheLargest) {
  const DrawnToken drawn = draw_token(kLogits, {}, 0.99);
  EXPECT_EQ(drawn.token, 1);
  EXPECT_NEAR(drawn.logprob, std::log(probabilities(kLogits, 1)[1]), 1e-6);
}

TEST(Sampling, TemperatureDrawsFromTheDistribution) {
  for (const double temperature : {0.5, 1.0, 3.0}) {
    expect_shares(kLogits, {.temperature = temperature}, probabilities(kLogits, temperature));
  }
}

TEST(Sampling, TopKKeepsTheLikeliestWithTiesByToken) {
  // The two largest tie (tokens 1 and 3), then token 4.
  expect_shares(kLogits, {.temperature = 1, .top_k = 1}, {0, 1, 0, 0, 0, 0});
  const double e = std::exp(-1.0);
  expect_shares(kLogits, {.temperature = 1, .top_k = 3},
                {0, 1 / (2 + e), 0, 1 / (2 + e), e / (2 + e), 0});
  expect_shares(kLogits, {.temperature = 1, .top_k = 100}, probabilities(kLogits, 1));
}

TEST(Sampling, TopPKeepsTheFewestThatReachTheMass) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f),
                                     std::log(0.05f)};
  expect_shares(logits, {.temperature = 1, .top_p = 0.45}, {1, 0, 0, 0});
  expect_shares(logits, {.temperature = 1, .top_p = 0.75}, {0.625, 0.375, 0, 0});
  expect_shares(logits, {.temperature = 1, .top_p = 0.9}, {0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0});
  expect_shares(logits, {.temperature = 1, .top_k = 2, .top_p = 0.9}, {0.625, 0.375, 0, 0});
  expect_shares(std::vector<float>(4), {.temperature = 1, .top_p = 0.5}, {0.5, 0.5, 0, 0});
}

TEST(Sampling, ALogitThatIsNotFiniteIsABug) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> logits = kLogits;
    logits[5] = bad;
    EXPECT_THROW((void)draw_token(logits, {}, 0), InvariantError);
  }
}

TEST(Sampling, UniformsDependOnEveryPartOfTheirKey) {
  const double base = uniform_for(1, RequestId(2), 3, Tokens(4));
  EXPECT_EQ(uniform_for(1, RequestId(2), 3, Tokens(4)), base);
  EXPECT_NE(uniform_for(2, RequestId(2), 3, Tokens(4)), base);
  EXPECT_NE(uniform_for(1, RequestId(3), 3, Tokens(4)), base);
  EXPECT_NE(uniform_for(1, RequestId(2), 4, Tokens(4)), base);
  EXPECT_NE(uniform_for(1, RequestId(2), 3, Tokens(5)), base);
  double sum = 0;
  for (std::uint32_t i = 0; i < 10000; ++i) sum += uniform_for(1, RequestId(i), 0, Tokens(i % 7));
  EXPECT_NEAR(sum / 10000, 0.5, 0.012);  // four standard errors
}

}  // namespace
}  // namespace kvstow
