// Every edge of the executor's ordering, dropped in turn: the tokens must show it.
#include <gtest/gtest.h>

#include "tests/cpu/verify_fixture.h"
#include "tests/cuda/tiny_model.h"

namespace kvstow {
namespace {

TEST(DroppedEdges, AreCaught) {
  const std::vector<Request> trace = mixed_trace(24);
  const TokenHashes reference = run_alone(trace, tiny_model());
  const VerifyArm arm = iteration_arm("paged, swap", "paged", 16, Preemption::swap);
  const ArmVerdict whole = verify_arm(arm, trace, tiny_model(), reference);
  EXPECT_TRUE(whole.ok()) << whole.error;
  EXPECT_GT(whole.swapped, Tokens(0));
  for (const Edge edge : {Edge::rows_before_layers, Edge::layers_before_swap,
                          Edge::swap_out_before_reuse, Edge::swap_in_before_layers}) {
    const ArmVerdict verdict = verify_arm(arm, trace, tiny_model_without(edge), reference);
    EXPECT_FALSE(verdict.ok()) << "edge " << static_cast<int>(edge) << " was not missed";
  }
}

}  // namespace
}  // namespace kvstow
