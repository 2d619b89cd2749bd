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

TEST(RunMetrics, GoodputNeedsEveryObjective) {
  RunMetrics metrics({.slo_ttft = 1.5, .slo_tpot = 1.0});
  metrics.on_request(request(0, 0, 1, 5, 5));  // ttft 1, tpot 1
  metrics.on_request(request(1, 0, 2, 6, 5));  // ttft 2, tpot 1
  metrics.on_request(request(2, 0, 1, 9, 5));  // ttft 1, tpot 2
  metrics.on_request(request(3, 0, 1, 1, 1));  // ttft 1; one token has no tpot
  const RunSummary summary = metrics.summarize();
  EXPECT_DOUBLE_EQ(summary.goodput_per_s, 2.0 / 9);
  EXPECT_DOUBLE_EQ(summary.tpot_s.mean, 4.0 / 3);
  EXPECT_DOUBLE_EQ(summary.tpot_s.median, 1);
}

// Every sample of a group counts in the normalised latency and the output, not in the others.
TEST(RunMetrics, NormalisedLatencyCountsSamples) {
  RunMetrics metrics({});
  metrics.on_request(request(0, 0, 1, 10, 10, 3));  // 1 s/token, three samples
  metrics.on_request(request(1, 0, 1, 50, 10));     // 5 s/token
  const RunSummary summary = metrics.summarize();
  EXPECT_DOUBLE_EQ(summary.normalized_latency_s_per_token.mean, 2);
  EXPECT_DOUBLE_EQ(summary.e2el_s.mean, 30);
  EXPECT_EQ(summary.input_tokens, 10 + 10);
  EXPECT_EQ(summary.output_tokens, 3 * 10 + 10);
  EXPECT_DOUBLE_EQ(summary.output_throughput_tokens_per_s, 40.0 / 50);
}

TEST(RunMetrics, GapsCountOnceForEachSequence) {
  RunMetrics metrics({});
  metrics.on_token_gaps(10, 5);
  metrics.on_token_gaps(0.1, 60);
  metrics.on_token_gaps(1, 35);
  const Distribution itl = metrics.summarize().itl_s;
  EXPECT_NEAR(itl.mean, 0.91, 1e-12);
  EXPECT_NEAR(itl.median, 0.1, 0.1 * 0.004);
  EXPECT_NEAR(itl.p90, 1, 1 * 0.004);
  EXPECT_NEAR(itl.p99, 10, 10 * 0.004);
}

// Both ends of the window belong to it. A step that holds nothing has no sharing to average.
TEST(RunMetrics, StepAveragesAreUnweightedOverTheWindow) {
  RunMetrics metrics({.window_from = 10, .window_to = 20});
  for (const auto& [begin, groups] :
       {std::pair{5.0, 100}, {10.0, 2}, {15.0, 0}, {20.0, 4}, {21.0, 100}}) {
    StepTotals totals{.groups = groups, .sequences = 2 * groups, .recomputed = Tokens(groups)};
    metrics.on_step({.begin = begin,
                     .totals = &totals,
                     .waiting_groups = 3 * groups,
                     .swapped_groups = 7,
                     .preemptions = 1,
                     .head_fragmented = groups == 4,
                     .swapped_out = Tokens(5),
                     .swapped_in = Tokens(7),
                     .copied = Tokens(3 * groups),
                     .device = {.live = Tokens(groups), .free = Tokens(100 - groups)},
                     .mapped = Tokens(2 * groups)});
  }
  const RunSummary summary = metrics.summarize();
  EXPECT_EQ(summary.window_steps, 3);
  EXPECT_DOUBLE_EQ(summary.batch_groups, 2);
  EXPECT_DOUBLE_EQ(summary.batch_sequences, 4);
  EXPECT_DOUBLE_EQ(summary.waiting_groups, 6);
  EXPECT_DOUBLE_EQ(summary.head_fragmented_share, 1.0 / 3);
  EXPECT_DOUBLE_EQ(summary.memory.live, 0.02);
  EXPECT_DOUBLE_EQ(summary.memory.free, 0.98);
  EXPECT_DOUBLE_EQ(summary.sharing_saving, 0.5);
  // Sums are over the whole run.
  EXPECT_EQ(summary.steps, 5);
  EXPECT_EQ(summary.sequence_steps, 2 * 206);
  EXPECT_EQ(summary.preemptions, 5);
  EXPECT_EQ(summary.recomputed_tokens, 206);
  EXPECT_EQ(summary.swapped_tokens, 5 * (5 + 7));
  EXPECT_EQ(summary.copied_tokens, 3 * 206);
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
