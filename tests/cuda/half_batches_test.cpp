// Steps in two halves: the same tokens as ever, and every edge still needed.
#include <gtest/gtest.h>

#include "core/exec/cuda/cuda_executor.h"
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

// Counts the steps that went in halves.
class Counting final : public ComputingExecutor {
 public:
  Counting(std::unique_ptr<ComputingExecutor> inner, std::int64_t& halves)
      : inner_(std::move(inner)), halves_(halves) {}
  ~Counting() override {
    for (const StepTiming& step : dynamic_cast<const CudaExecutor&>(*inner_).timings()) {
      halves_ += step.halves;
    }
  }
  void submit(const Step& step) override { inner_->submit(step); }
  StepResult wait() override { return inner_->wait(); }
  [[nodiscard]] int depth() const override { return inner_->depth(); }
  [[nodiscard]] std::uint64_t token_hash(SeqId seq) const override {
    return inner_->token_hash(seq);
  }
  void read_pool(Tier tier, PoolImage& image) override { inner_->read_pool(tier, image); }

 private:
  std::unique_ptr<ComputingExecutor> inner_;
  std::int64_t& halves_;
};

TEST(HalfBatches, ComputeTheSameTokens) {
  std::int64_t steps = 0;
  const ExecutorFactory halves = [&](const VerifyArm& arm, const KvAllocator& allocator,
                                     Teacher* teacher) {
    static const ExecutorFactory always = tiny_model_without(Edge::none, HalfBatches::always);
    return std::make_unique<Counting>(always(arm, allocator, teacher), steps);
  };
  for (const VerifyArm& arm :
       {iteration_arm("paged, swap", "paged", 16, Preemption::swap),
        iteration_arm("paged, recompute", "paged", 7, Preemption::recompute),
        iteration_arm("extents", "contiguous-best-fit", 16, Preemption::recompute)}) {
    steps = 0;
    const ArmVerdict verdict = verify_arm(arm, trace(), halves, reference());
    EXPECT_TRUE(verdict.ok()) << verdict.error;
    EXPECT_GT(steps, 0);
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
