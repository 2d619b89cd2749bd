// Collects freed blocks into runs, so that a plan carries one free operation per run.
#pragma once

#include "core/kv/mem_plan.h"

namespace kvstow {

class FreeRuns {
 public:
  FreeRuns(MemPlan& plan, Tier tier, std::int64_t block_tokens)
      : plan_(plan), tier_(tier), block_tokens_(block_tokens) {}
  FreeRuns(const FreeRuns&) = delete;
  FreeRuns& operator=(const FreeRuns&) = delete;
  ~FreeRuns() { flush(); }

  void add(BlockId block) {
    const std::int64_t b = block.index();
    if (b == first_ - 1 && count_ > 0) {
      first_ = b;
      ++count_;
    } else if (b == first_ + count_ && count_ > 0) {
      ++count_;
    } else {
      flush();
      first_ = b;
      count_ = 1;
    }
  }

 private:
  void flush() {
    if (count_ > 0) plan_.free(tier_, Slot(first_ * block_tokens_), Tokens(count_ * block_tokens_));
    count_ = 0;
  }

  MemPlan& plan_;
  Tier tier_;
  std::int64_t block_tokens_;
  std::int64_t first_ = 0;
  std::int64_t count_ = 0;
};

}  // namespace kvstow
