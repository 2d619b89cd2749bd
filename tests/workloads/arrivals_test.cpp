#include <gtest/gtest.h>

#include <array>

#include "tests/workloads/helpers.h"

namespace kvstow::test {
namespace {

constexpr int kRequests = 100'000;

WorkloadConfig arrivals_of(ArrivalLaw law, double rate_per_s) {
  WorkloadConfig config = batch_of(LengthLaw::fixed, kRequests);
  config.fixed_prompt = config.fixed_output = Tokens(8);
  config.arrivals = law;
  config.rate_per_s = rate_per_s;
  config.quantum_s = 0;
  return config;
}

// The relative standard error of the coefficient of variation of n gamma(shape) gaps:
// sqrt((kurtosis - 1) / 4 + cv^2 ... ) / sqrt(n), with kurtosis 3 + 6 / shape (delta method, the
// covariance of mean and variance, which would lower it, left out).
double cv_error(double shape) {
  return std::sqrt(((2 + 6 / shape) / 4 + 1 / shape) / kRequests);
}

TEST(PoissonArrivals, HaveTheRateAndCvOne) {
  const Moments gap = moments(gaps(trace_of(arrivals_of(ArrivalLaw::poisson, 2))));
  EXPECT_NEAR(gap.mean, 0.5, 4 * 0.5 / std::sqrt(kRequests));
  EXPECT_NEAR(gap.sd / gap.mean, 1, 4 * cv_error(1));
}

TEST(PoissonArrivals, CountsPerQuantumArePoisson) {
  WorkloadConfig config = arrivals_of(ArrivalLaw::poisson, 100);
  config.quantum_s = 0.01;
  const std::vector<Request> requests = trace_of(config);
  const auto ticks = static_cast<std::size_t>(std::lround(requests.back().arrival / 0.01));
  std::vector<int> counts(ticks + 1);
  for (const Request& request : requests) {
    const double tick = request.arrival / 0.01;
    ASSERT_NEAR(tick, std::round(tick), 1e-6) << "not a multiple of the quantum";
    ++counts[static_cast<std::size_t>(std::lround(tick))];
  }
  std::array<double, 5> share{};
  for (const int count : counts) {
    if (count < 5) share[count] += 1 / static_cast<double>(counts.size());
  }
  double expected = std::exp(-1.0);  // one arrival per tick on average: e^-1 / k!
  for (int k = 0; k < 5; ++k) {
    const double error = std::sqrt(expected * (1 - expected) / static_cast<double>(ticks));
    EXPECT_NEAR(share[k], expected, 4 * error) << k << " arrivals in a tick";
    expected /= k + 1;
  }
}

TEST(GammaArrivals, HaveTheCvOfTheirBurstiness) {
  for (const double burstiness : {0.25, 0.5, 1.0, 4.0}) {
    WorkloadConfig config = arrivals_of(ArrivalLaw::gamma, 3);
    config.burstiness = burstiness;
    const Moments gap = moments(gaps(trace_of(config)));
    const double cv = 1 / std::sqrt(burstiness);
    EXPECT_NEAR(gap.mean, 1.0 / 3, 4 * cv / 3 / std::sqrt(kRequests)) << burstiness;
    EXPECT_NEAR(gap.sd / gap.mean, cv, 4 * cv * cv_error(burstiness)) << burstiness;
  }
}

TEST(GammaArrivals, OfBurstinessOneArePoisson) {
  EXPECT_EQ(scan_workload(arrivals_of(ArrivalLaw::gamma, 2), 7).content_hash,
            scan_workload(arrivals_of(ArrivalLaw::poisson, 2), 7).content_hash);
}

TEST(Arrivals, NeverGoBackwards) {
  for (const double quantum : {0.0, 0.01, 1.0}) {
    WorkloadConfig config = arrivals_of(ArrivalLaw::gamma, 50);
    config.burstiness = 0.1;
    config.quantum_s = quantum;
    for (const double gap : gaps(trace_of(config))) ASSERT_GE(gap, 0);
  }
}

TEST(Arrivals, AtTwiceTheRateAreTheSamePatternTwiceAsFast) {
  const auto slow = trace_of(arrivals_of(ArrivalLaw::poisson, 2));
  const auto fast = trace_of(arrivals_of(ArrivalLaw::poisson, 4));
  for (std::size_t i = 0; i < slow.size(); ++i) ASSERT_EQ(slow[i].arrival, 2 * fast[i].arrival);
}

TEST(Arrivals, EndAtTheDuration) {
  WorkloadConfig config = arrivals_of(ArrivalLaw::poisson, 100);
  config.max_requests = 0;
  config.duration_s = 100;
  const auto requests = trace_of(config);
  EXPECT_LT(requests.back().arrival, 100);
  EXPECT_NEAR(static_cast<double>(requests.size()), 1e4, 4 * 1e2);  // Poisson: sd = sqrt(mean)
}

TEST(Arrivals, AllAtZero) {
  for (const Request& request : trace_of(batch_of(LengthLaw::sharegpt, 100))) {
    EXPECT_EQ(request.arrival, 0);
  }
}

}  // namespace
}  // namespace kvstow::test
