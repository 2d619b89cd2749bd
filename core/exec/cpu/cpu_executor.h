// Carries steps out for real, on the CPU: a transformer whose K and V lie in the slots that the
// allocator under test hands out. A wrong table, a lost copy or a slot freed too early therefore
// changes tokens, and token_hash() shows it.
//
// What is drawn depends on the made-up prompts (token_histories.h), the model and the sampling
// alone: the same tokens under every allocator, batch, block size and preemption.
#pragma once

#include <memory>
#include <vector>

#include "core/exec/cpu/cpu_transformer.h"
#include "core/exec/rows/computing_executor.h"
#include "core/exec/rows/sampling.h"
#include "core/exec/rows/step_rows.h"
#include "core/kv/kv_allocator.h"

namespace kvstow {

struct CpuExecutorConfig {
  std::uint64_t seed = 1;
  SamplingConfig sampling;
  int threads = 0;  // 0: as many as the machine has
  // Overwrites slots with NaN when a plan frees them, and the pool before anything is written: a
  // read of dead content then fails at once instead of by luck. For verification.
  bool poison = false;
  Teacher* teacher = nullptr;  // draws instead of the executor
};

class CpuExecutor final : public ComputingExecutor {
 public:
  // The pools are exactly the allocator's tiers. The allocator must outlive the executor and, while
  // a step is submitted, be in the state that the step was made in. Throws InputError where memory
  // is short.
  CpuExecutor(std::shared_ptr<const CpuTransformer>, const KvAllocator&, const CpuExecutorConfig&);

  // Runs the step to its end; `elapsed` is wall time.
  void submit(const Step&) override;
  StepResult wait() override { return result_; }

  [[nodiscard]] std::uint64_t token_hash(SeqId seq) const override { return histories_.hash(seq); }
  void read_pool(Tier, PoolImage&) override;

 private:
  void run_plan(const MemPlan&);
  void draw(std::span<const float> logits);

  std::shared_ptr<const CpuTransformer> model_;
  CpuExecutorConfig config_;
  kernels::cpu::ThreadPool threads_;
  FloatArray device_data_, host_data_;
  kernels::KvPool device_{}, host_{};

  TokenHistories histories_;
  StepRows rows_;
  CpuTransformer::Workspace work_;
  std::vector<TokenOut> tokens_;
  StepResult result_;
};

}  // namespace kvstow
