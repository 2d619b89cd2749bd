// Carries steps out for real, on the CPU: a transformer whose K and V lie in the slots that the
// allocator under test hands out. A wrong table, a lost copy or a slot freed too early therefore
// changes tokens, and token_hash() shows it.
//
// Prompts are made up: the token at a position is a hash of (seed, request, position), or of (seed,
// prefix, position) within a shared prefix. What is drawn depends on those, the model and the
// sampling alone: the same tokens under every allocator, batch, block size and preemption.
#pragma once

#include <memory>
#include <vector>

#include "core/engine/sampling.h"
#include "core/exec/cpu/cpu_transformer.h"
#include "core/exec/executor.h"
#include "core/kv/kv_allocator.h"

namespace kvstow {

struct CpuExecutorConfig {
  std::uint64_t seed = 1;
  SamplingConfig sampling;
  int threads = 0;  // 0: as many as the machine has
  // Overwrites slots with NaN when a plan frees them, and the pool before anything is written: a
  // read of dead content then fails at once instead of by luck. For verification.
  bool poison = false;
};

class CpuExecutor final : public Executor {
 public:
  // The pools are exactly the allocator's tiers. The allocator must outlive the executor and, while
  // a step is submitted, be in the state that the step was made in. Throws InputError where memory
  // is short.
  CpuExecutor(std::shared_ptr<const CpuTransformer>, const KvAllocator&, const CpuExecutorConfig&);

  // Runs the step to its end; `elapsed` is wall time.
  void submit(const Step&) override;
  StepResult wait() override { return result_; }

  [[nodiscard]] std::uint64_t token_hash(SeqId) const override;

  // The output tokens drawn for a sequence so far.
  [[nodiscard]] const std::vector<std::int32_t>& tokens(SeqId) const;

 private:
  // What a sequence has drawn. Survives preemption; starts anew when its id goes to another
  // request.
  struct History {
    RequestId request;
    std::vector<std::int32_t> tokens;
    double score = 0;  // beam search: sum of the log-probabilities
  };
  // One drawing group of the step: its members' logits rows are consecutive.
  struct Draw {
    const StepGroup* group;
    std::size_t first_row;
    std::size_t rows;  // 1 while the members share a history, otherwise one each
  };

  void run_plan(const MemPlan&);
  void collect_rows(const Step&);
  [[nodiscard]] std::size_t members_to_compute(const StepGroup&) const;
  void add_prompt_rows(const StepGroup&, SeqId, std::int32_t map_row);
  void add_generated_rows(const StepGroup&, SeqId, std::int32_t map_row);
  void add_row(const StepGroup&, SeqId, Tokens position, const KvView&);
  void set_map(const StepGroup&, SeqId, std::size_t map_row);
  void draw(std::span<const float> logits);
  void draw_samples(const Draw&, std::span<const float> logits);
  void draw_beams(const Draw&, std::span<const float> logits);
  [[nodiscard]] History& history_of(SeqId, const Request&);
  [[nodiscard]] std::int32_t token_at(const StepGroup&, SeqId, Tokens position);

  std::shared_ptr<const CpuTransformer> model_;
  const KvAllocator& allocator_;
  CpuExecutorConfig config_;
  kernels::cpu::ThreadPool threads_;
  FloatArray device_data_, host_data_;
  kernels::KvPool device_{}, host_{};

  std::vector<History> histories_;  // by SeqId
  ForwardRows rows_;
  std::vector<Draw> draws_;
  CpuTransformer::Workspace work_;
  std::vector<TokenOut> tokens_;
  StepResult result_;
};

}  // namespace kvstow
