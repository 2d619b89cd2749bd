// Every edge of the executor's ordering, dropped in turn: the tokens must show it.
#include <gtest/gtest.h>

#include "tests/cpu/verify_fixture.h"
#include "tests/cuda/tiny_model.h"

namespace kvstow {
namespace {

class DroppedEdges : public ::testing::TestWithParam<Edge> {};

TEST_P(DroppedEdges, AreCaught) {
  static const std::vector<Request> trace = mixed_trace(24);
  static const TokenHashes reference = run_alone(trace, tiny_model());
  const VerifyArm arm = iteration_arm("paged, swap", "paged", 16, Preemption::swap);
  const ArmVerdict whole = verify_arm(arm, trace, tiny_model(), reference);
  EXPECT_TRUE(whole.ok()) << whole.error;
  EXPECT_GT(whole.swapped, Tokens(0));
  EXPECT_FALSE(verify_arm(arm, trace, tiny_model_without(GetParam()), reference).ok());
}

// One step in flight: the edges of the swaps are what can still be lost.
TEST_P(DroppedEdges, AreCaughtWhereTokensAreForced) {
  if (GetParam() == Edge::layers_before_swap) GTEST_SKIP() << "every layer has ended before a swap";
  static const std::vector<Request> trace = mixed_trace(24);
  static const RememberedDraws reference = run_reference(trace, tiny_model(), kTinySampling, 1);
  const VerifyArm arm = iteration_arm("paged, swap", "paged", 16, Preemption::swap);
  const ArmVerdict whole = verify_forced(arm, trace, tiny_model(), reference, kTinyTolerance);
  EXPECT_TRUE(whole.ok()) << whole.error << whole.logits->largest;
  const ExecutorFactory dropped = tiny_model_without(GetParam());
  EXPECT_FALSE(verify_forced(arm, trace, dropped, reference, kTinyTolerance).ok());
}

constexpr const char* kEdgeNames[] = {"None", "RowsBeforeLayers", "LayersBeforeSwap",
                                      "SwapOutBeforeReuse", "SwapInBeforeLayers"};

INSTANTIATE_TEST_SUITE_P(All, DroppedEdges,
                         ::testing::Values(Edge::rows_before_layers, Edge::layers_before_swap,
                                           Edge::swap_out_before_reuse,
                                           Edge::swap_in_before_layers),
                         [](const auto& each) {
                           return kEdgeNames[static_cast<std::size_t>(each.param)];
                         });

}  // namespace
}  // namespace kvstow
