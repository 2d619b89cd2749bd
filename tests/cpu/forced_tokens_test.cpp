// Verification where tokens are forced: it passes what is right, names the first row that is not,
// and sees every slot that an executor did not move as the plan says.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/cpu/verify_fixture.h"

namespace kvstow {
namespace {

constexpr double kNothing = 0;  // the CPU's rows do not depend on the batch

struct Reference {
  std::vector<Request> trace = mixed_trace(24);
  ExecutorFactory model = tiny_model();
  RememberedDraws draws = run_reference(trace, model, kTinySampling, 1);
};

const Reference& reference() {
  static const Reference shared;
  return shared;
}

TEST(ForcedTokens, GiveTheSameLogitsWhateverIsMoved) {
  const Reference& r = reference();
  for (const Preemption preemption : {Preemption::swap, Preemption::recompute}) {
    const VerifyArm arm = iteration_arm("paged", "paged", 16, preemption);
    const ArmVerdict verdict = verify_forced(arm, r.trace, r.model, r.draws, kNothing);
    EXPECT_TRUE(verdict.ok()) << verdict.error;
    EXPECT_EQ(verdict.compared, std::ssize(r.trace));
    EXPECT_EQ(verdict.logits->largest, 0);
    EXPECT_GT(verdict.logits->rows, verdict.compared);
    EXPECT_GT(verdict.copied, Tokens(0));
    EXPECT_GT(preemption == Preemption::swap ? verdict.swapped : verdict.recomputed, Tokens(0));
  }
}

TEST(ForcedTokens, TheFirstRowThatDiffersIsNamed) {
  const Reference& r = reference();
  RememberedDraws draws = r.draws;
  for (float& logit : draws[5].at(2).logits) logit *= 1.01F;
  const VerifyArm arm = iteration_arm("paged", "paged", 16, Preemption::recompute);
  EXPECT_TRUE(verify_forced(arm, r.trace, r.model, draws, 0.02).ok());
  const ArmVerdict verdict = verify_forced(arm, r.trace, r.model, draws, 0.005);
  EXPECT_FALSE(verdict.ok());
  EXPECT_EQ(verdict.different, 1);
  EXPECT_EQ(verdict.first_different, RequestId(5));
  EXPECT_EQ(verdict.logits->first.request, RequestId(5));
  EXPECT_EQ(verdict.logits->first.position, Tokens(2));
  EXPECT_NEAR(verdict.logits->first.error, 0.01 / 1.01, 1e-6);
}

// Leaves the last operation of one kind out of every plan.
class Forgetful final : public ComputingExecutor {
 public:
  Forgetful(std::unique_ptr<ComputingExecutor> inner, MemOpKind kind)
      : inner_(std::move(inner)), kind_(kind) {}
  void submit(const Step& step) override {
    step_.groups = step.groups;
    step_.plan.clear();
    const auto& ops = step.plan.ops();
    const auto last =
        std::find_if(ops.rbegin(), ops.rend(), [&](const MemOp& op) { return op.kind == kind_; });
    for (const MemOp& op : ops) {
      if (last == ops.rend() || &op != &*last) step_.plan.append(op);
    }
    inner_->submit(step_);
  }
  StepResult wait() override { return inner_->wait(); }
  [[nodiscard]] std::uint64_t token_hash(SeqId seq) const override {
    return inner_->token_hash(seq);
  }
  void read_pool(Tier tier, PoolImage& image) override { inner_->read_pool(tier, image); }

 private:
  std::unique_ptr<ComputingExecutor> inner_;
  MemOpKind kind_;
  Step step_;
};

// Without poison, so that it is not the logits that show it.
TEST(ForcedTokens, WhatAnExecutorDidNotMoveIsSeenAtOnce) {
  const auto model = std::make_shared<CpuTransformer>(
      tiny_shape(/*hidden=*/32, /*head_dim=*/8, /*ffn=*/48, /*vocab=*/96), *random_weights(1));
  const Reference& r = reference();
  const VerifyArm arm = iteration_arm("paged, swap", "paged", 16, Preemption::swap);
  for (const MemOpKind kind : {MemOpKind::copy, MemOpKind::swap_out, MemOpKind::swap_in}) {
    const ExecutorFactory forgetful = [&](const VerifyArm&, const KvAllocator& allocator,
                                          Teacher* teacher) {
      const CpuExecutorConfig config{.threads = 1, .teacher = teacher};
      return std::make_unique<Forgetful>(std::make_unique<CpuExecutor>(model, allocator, config),
                                         kind);
    };
    constexpr double kAnything = 1e9;
    const ArmVerdict verdict = verify_forced(arm, r.trace, forgetful, r.draws, kAnything);
    const std::string tier = kind == MemOpKind::swap_out ? "host" : "device";
    const std::string message = " of the " + tier + " does not hold what the memory plans leave";
    EXPECT_NE(verdict.error.find(message), std::string::npos) << verdict.error;
  }
}

}  // namespace
}  // namespace kvstow
