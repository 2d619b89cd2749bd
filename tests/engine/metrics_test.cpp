#include <gtest/gtest.h>

#include "core/metrics/run_metrics.h"

namespace kvstow {
namespace {

RequestEvent request(std::uint32_t id, Seconds arrival, Seconds first, Seconds finish, int output,
                     int sequences = 1) {
  return {.id = RequestId(id),
          .arrival = arrival,
          .first_scheduled = arrival + 0.5,
          .first_token = first,
          .finish = finish,
          .prompt = Tokens(10),
          .output = Tokens(output),
          .sequences = sequences};
}

TEST(RunMetrics, ServingMetricsByHand) {
  RunMetrics metrics({.slo_ttft = 1.5, .slo_tpot = 1.0});
  metrics.on_request(request(1, 1, 2, 6, 5));    // ttft 1, tpot 1, normalised 1
  metrics.on_request(request(0, 0, 2, 22, 11));  // ttft 2, tpot 2, normalised 2
  metrics.on_request({.id = RequestId(2), .rejected = true});
  const RunSummary summary = metrics.summarize();
  EXPECT_EQ(summary.arrived, 3);
  EXPECT_EQ(summary.finished, 2);
  EXPECT_EQ(summary.rejected, 1);
  EXPECT_EQ(summary.duration, 22);
  EXPECT_DOUBLE_EQ(summary.ttft_s.mean, 1.5);
  EXPECT_DOUBLE_EQ(summary.tpot_s.mean, 1.5);
  EXPECT_DOUBLE_EQ(summary.queue_s.mean, 0.5);
  EXPECT_DOUBLE_EQ(summary.e2el_s.mean, 13.5);
  EXPECT_DOUBLE_EQ(summary.normalized_latency_s_per_token.mean, 1.5);
  EXPECT_DOUBLE_EQ(summary.normalized_latency_s_per_token.p99, 1.99);
  EXPECT_DOUBLE_EQ(summary.request_throughput_per_s, 2.0 / 22);
  EXPECT_DOUBLE_EQ(summary.goodput_per_s, 1.0 / 22);
}

// Every sample of a group counts in the normalised latency.
TEST(RunMetrics, NormalisedLatencyCountsSamples) {
  RunMetrics metrics({});
  metrics.on_request(request(0, 0, 1, 10, 10, 3));  // 1 s/token, three samples
  metrics.on_request(request(1, 0, 1, 50, 10));     // 5 s/token
  EXPECT_DOUBLE_EQ(metrics.summarize().normalized_latency_s_per_token.mean, 2);
}

TEST(RunMetrics, StepAveragesAreUnweightedOverTheWindow) {
  RunMetrics metrics({.window_from = 10, .window_to = 20});
  for (const auto& [begin, groups] : {std::pair{5.0, 100}, {10.0, 2}, {19.0, 4}, {21.0, 100}}) {
    StepTotals totals{.groups = groups, .sequences = groups};
    metrics.on_step({.begin = begin,
                     .totals = &totals,
                     .device = {.live = Tokens(groups), .free = Tokens(100 - groups)},
                     .mapped = Tokens(2 * groups)});
  }
  const RunSummary summary = metrics.summarize();
  EXPECT_EQ(summary.steps, 4);
  EXPECT_EQ(summary.window_steps, 2);
  EXPECT_DOUBLE_EQ(summary.batch_groups, 3);
  EXPECT_DOUBLE_EQ(summary.memory.live, 0.03);
  EXPECT_DOUBLE_EQ(summary.memory.free, 0.97);
  EXPECT_DOUBLE_EQ(summary.sharing_saving, 0.5);
}

TEST(DurationHistogram, QuantilesWithinABin) {
  DurationHistogram histogram;
  for (int i = 1; i <= 1000; ++i) histogram.add(i * 1e-3, 2);
  EXPECT_EQ(histogram.count(), 2000);
  EXPECT_NEAR(histogram.mean(), 0.5005, 1e-9);
  EXPECT_NEAR(histogram.quantile(0.5), 0.5, 0.5 * 0.004);
  EXPECT_NEAR(histogram.quantile(0.99), 0.99, 0.99 * 0.004);
  EXPECT_EQ(DurationHistogram().quantile(0.5), 0);
}

}  // namespace
}  // namespace kvstow
