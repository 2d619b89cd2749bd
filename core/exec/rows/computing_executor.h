// An executor that computes for real, open to those who verify it.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/exec/executor.h"
#include "core/exec/rows/token_histories.h"
#include "core/kv/mem_plan.h"

namespace kvstow {

// Draws in an executor's place, one group after the other: sees the logits and says which tokens
// they lead to (group_draw.h has what an executor does by itself). The executor then has one step
// in flight.
class Teacher {
 public:
  virtual ~Teacher() = default;
  virtual void draw(const StepGroup&, std::span<const float> logits, int vocab, TokenHistories&,
                    std::vector<TokenOut>& out) = 0;
};

// K and V of a tier, all layers of a slot side by side.
struct PoolImage {
  std::size_t slot_bytes = 0;
  std::vector<std::byte> data;

  [[nodiscard]] std::span<std::byte> slot(std::size_t index) {
    return std::span(data).subspan(index * slot_bytes, slot_bytes);
  }
  // From a pool that has `planes` (K and V of each layer) one after the other.
  void gather(std::span<const std::byte> pool, std::size_t planes, std::size_t slots);
};

class ComputingExecutor : public Executor {
 public:
  // When all that was submitted has ended.
  virtual void read_pool(Tier, PoolImage&) = 0;
};

}  // namespace kvstow
