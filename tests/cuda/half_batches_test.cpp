// Steps in two halves: the same tokens as ever, and every edge still needed.
#include <gtest/gtest.h>

#include "tests/cpu/verify_fixture.h"
#include "tests/cuda/tiny_model.h"

namespace kvstow {
namespace {

const std::vector<Request>& trace() {
  static const std::vector<Request> all = mixed_trace(24);
  return all;
}

const TokenHashes& reference() {
  static const TokenHashes alone = run_alone(trace(), tiny_model());
  return alone;
}

TEST(HalfBatches, ComputeTheSameTokens) {
  const ExecutorFactory halves = tiny_model_without(Edge::none, HalfBatches::always);
  for (const VerifyArm& arm :
       {iteration_arm("paged, swap", "paged", 16, Preemption::swap),
        iteration_arm("paged, recompute", "paged", 7, Preemption::recompute),
        iteration_arm("extents", "contiguous-best-fit", 16, Preemption::recompute)}) {
    const ArmVerdict verdict = verify_arm(arm, trace(), halves, reference());
    EXPECT_TRUE(verdict.ok()) << verdict.error;
  }
}

class HalfBatchesWithoutAnEdge : public ::testing::TestWithParam<Edge> {};

TEST_P(HalfBatchesWithoutAnEdge, AreCaught) {
  const VerifyArm arm = iteration_arm("paged, swap", "paged", 16, Preemption::swap);
  const ExecutorFactory dropped = tiny_model_without(GetParam(), HalfBatches::always);
  EXPECT_FALSE(verify_arm(arm, trace(), dropped, reference()).ok());
}

INSTANTIATE_TEST_SUITE_P(All, HalfBatchesWithoutAnEdge,
                         ::testing::Values(Edge::rows_before_layers, Edge::layers_before_swap,
                                           Edge::swap_out_before_reuse,
                                           Edge::swap_in_before_layers));

}  // namespace
}  // namespace kvstow
