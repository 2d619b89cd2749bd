// Request-level scheduling with static batches: FasterTransformer as the PagedAttention paper ran
// it (section 6.1, "Baseline 1"; the rules are the authors' artifact's). When idle, up to B
// requests are taken in order of arrival, stopping at the first that would make max(prompt) +
// max(output) exceed a limit, or that the allocator refuses. The batch is padded to its longest
// prompt and runs for max(output) steps; every member completes when the batch does. Every member
// reserves max(prompt) + max(output) slots.
#pragma once

#include <deque>

#include "core/engine/scheduler.h"
#include "core/kv/kv_allocator.h"

namespace kvstow {

struct StaticBatchConfig {
  std::int64_t batch_size = 1;  // B
  Tokens batch_limit{2040};     // of max(prompt) + max(output)
};

class StaticBatchScheduler final : public Scheduler {
 public:
  // The allocator must outlive the scheduler.
  StaticBatchScheduler(const StaticBatchConfig&, KvAllocator&);

  [[nodiscard]] bool add(SequenceGroup&) override;
  void schedule(Step&) override;
  void complete(std::vector<SequenceGroup*>& finished) override;
  [[nodiscard]] std::span<SequenceGroup* const> resident() const override { return batch_; }
  [[nodiscard]] std::span<SequenceGroup* const> preempted() const override { return {}; }
  [[nodiscard]] QueueLengths queues() const override {
    return {.waiting = static_cast<std::int64_t>(waiting_.size())};
  }

 private:
  void form_batch(Step&);
  [[nodiscard]] std::size_t count_candidates() const;
  [[nodiscard]] std::size_t admit(std::size_t members, Step&);
  [[nodiscard]] AdmitRequest request_for(const SequenceGroup&, Tokens total) const;
  void decode(Step&);

  StaticBatchConfig config_;
  KvAllocator& allocator_;
  std::deque<SequenceGroup*> waiting_;
  std::vector<SequenceGroup*> batch_;
  Tokens padded_prompt_{0};   // max(prompt) of the batch
  Tokens longest_output_{0};  // max(output) of the batch
  Tokens steps_{0};           // of the batch, the prompt step included
};

}  // namespace kvstow
