// Holds an executor to its memory plans, bit for bit: after every step each slot of both tiers
// holds what a copy of the pools holds on which the plan was carried out one operation after the
// other. Only the slots of the step's own rows may have changed otherwise; slots that nobody wrote,
// and freed ones, are not looked at.
#pragma once

#include <array>
#include <vector>

#include "core/exec/rows/computing_executor.h"
#include "core/kv/kv_allocator.h"

namespace kvstow {

// One step in flight. Throws InvariantError, naming the step and the slot, where a bit differs.
class PoolWitness final : public Executor {
 public:
  // Both must outlive this.
  PoolWitness(ComputingExecutor& inner, const KvAllocator&);

  void submit(const Step&) override;
  StepResult wait() override;
  [[nodiscard]] std::uint64_t token_hash(SeqId seq) const override {
    return inner_.token_hash(seq);
  }

 private:
  struct Pool {
    PoolImage expected;
    std::vector<bool> written;  // by slot: it holds something
  };

  void carry_out(const MemOp&);
  void expect_rows(const Step&);
  void compare(Tier);
  [[nodiscard]] Pool& pool(Tier tier) { return pools_[static_cast<std::size_t>(tier)]; }

  ComputingExecutor& inner_;
  const KvAllocator& allocator_;
  std::array<Pool, 2> pools_;   // by Tier
  std::vector<Slot> own_rows_;  // that the step in flight writes
  PoolImage found_;
  std::int64_t steps_ = 0;
};

}  // namespace kvstow
