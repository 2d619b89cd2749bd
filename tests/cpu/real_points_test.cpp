// `smoke-cpu`, point by point: what the simulator predicts for a trace is what the computed run
// does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/experiment/data_root.h"
#include "bench/experiment/experiment.h"
#include "bench/experiment/real_model.h"
#include "bench/experiment/run_point.h"

namespace kvstow {
namespace {

ResolvedPoint first_point(const std::string& panel, const std::string& system) {
  const Experiment experiment = read_experiment(file_of("experiments", "smoke-cpu"));
  for (const Curve& curve : experiment.curves) {
    if (curve.base.labels.panel == panel && curve.base.system.name == system) {
      return point_of(curve, {}, experiment.seed);
    }
  }
  ADD_FAILURE() << "no such point";
  return {};
}

TEST(RealPoints, TheMeasuredLedgerIsThePredictedOne) {
  for (const char* system : {"vllm", "orca-pow2", "faster-transformer"}) {
    ResolvedPoint point = first_point("single", system);
    point.executor = "cpu";
    const RunSummary real = run_point(point).summary;
    point.executor = "simulated";
    const RunSummary predicted = run_point(point).summary;
    EXPECT_EQ(real.finished, 60) << system;
    EXPECT_EQ(real.steps, predicted.steps) << system;
    EXPECT_EQ(real.preemptions, predicted.preemptions) << system;
    EXPECT_EQ(real.memory.live, predicted.memory.live) << system;
    EXPECT_EQ(real.memory.reserved, predicted.memory.reserved) << system;
    EXPECT_EQ(real.memory.internal, predicted.memory.internal) << system;
    EXPECT_EQ(real.memory.rounding, predicted.memory.rounding) << system;
    EXPECT_NE(real.token_hash, 0u) << system;
    EXPECT_EQ(predicted.token_hash, 0u) << system;
  }
}

TEST(RealPoints, TheSameTokensUnderEverySystem) {
  const std::uint64_t hash = run_point(first_point("single", "vllm")).summary.token_hash;
  EXPECT_EQ(run_point(first_point("single", "orca-max")).summary.token_hash, hash);
  ResolvedPoint other = first_point("single", "vllm");
  other.seed = 2;
  EXPECT_NE(run_point(other).summary.token_hash, hash);
}

// Out, back and computed anew, under block tables and extents.
TEST(RealPoints, ASwapIsCarriedOut) {
  for (const char* system : {"vllm", "orca-oracle"}) {
    ResolvedPoint point = first_point("single", system);
    point.kind = PointKind::swap;
    point.executor = "cpu";
    point.host_pool = point.pool;
    const SwapCost cost = run_point(point).swap;
    EXPECT_GT(cost.swap_in, 0) << system;
    EXPECT_GT(cost.swap_in_out, 0) << system;
    EXPECT_GT(cost.recompute, 0) << system;
  }
}

TEST(RealPoints, ACheckpointIsRead) {
  ResolvedPoint point = first_point("single", "vllm");
  point.model.name = "saved";
  point.model.checkpoint = KVSTOW_SOURCE_DIR "/tests/cpu/hf/saved-qwen3-bf16-sharded";
  point.model.layers = 2;
  point.model.kv_heads = 2;
  point.model.head_dim = 8;
  point.model.max_model_len = Tokens(256);
  point.workload.max_model_len = Tokens(256);
  point.workload.max_requests = 5;
  EXPECT_EQ(cpu_model(point)->shape().vocab, 48);
  EXPECT_EQ(run_point(point).summary.finished, 5);
}

TEST(RealPoints, AModelThatCannotBeComputedIsBadInput) {
  const auto error = [](auto change) {
    ResolvedPoint point = first_point("single", "vllm");
    change(point);
    try {
      (void)cpu_model(point);
    } catch (const InputError& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(error([](ResolvedPoint& p) { p.model.family.clear(); }),
              ::testing::HasSubstr("needs its `family`"));
  EXPECT_THAT(error([](ResolvedPoint& p) { p.model.dtype = "f16"; }),
              ::testing::HasSubstr("its dtype is f16"));
  EXPECT_THAT(error([](ResolvedPoint& p) { p.model.checkpoint = "/nowhere"; }),
              ::testing::HasSubstr("/nowhere/config.json: cannot be read"));
  const auto saved = [](ResolvedPoint& p) {
    p.model.checkpoint = KVSTOW_SOURCE_DIR "/tests/cpu/hf/saved-llama-f16";
  };
  EXPECT_THAT(error(saved), ::testing::HasSubstr("2 layers of 8 K/V elements, but model"));
  EXPECT_THAT(error([&](ResolvedPoint& p) {
                saved(p);
                p.model.kv_heads = 1;
                p.model.head_dim = 8;
              }),
              ::testing::HasSubstr("256 positions, but model"));
  EXPECT_THAT(error([](ResolvedPoint& p) { p.model.vocab = 1 << 22, p.model.hidden = 1 << 17; }),
              ::testing::HasSubstr("weights and pools need"));
  EXPECT_THAT(error([](ResolvedPoint& p) { p.model.heads = 5; }),
              ::testing::HasSubstr("5 attention heads are not a multiple of 2"));
}

}  // namespace
}  // namespace kvstow
