// Which operations of a MemPlan may run at the same time: a plain function, tested without a GPU.
//
// Two operations conflict where one writes slots (of one tier) that the other reads or writes.
// Operations are sorted into LEVELS: each one's level exceeds that of every earlier operation it
// conflicts with. So the operations of a level may run in any order or all together, and level
// after level gives what the plan gives in order. A plan of copies out of one block, or of swaps
// between distinct extents, is one level; a chain a -> b -> c is two (c gets what was in b before
// where b -> c comes first, what was in a otherwise).
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/kv/mem_plan.h"

namespace kvstow::kernels::cuda {

struct LevelledPlan {
  std::vector<MemOp> ops;  // copies and swaps by level, in the plan's order within one
  std::vector<std::size_t>
      level_end;  // level l is ops [l == 0 ? 0 : level_end[l - 1], level_end[l])

  [[nodiscard]] std::size_t levels() const { return level_end.size(); }
  [[nodiscard]] std::span<const MemOp> level(std::size_t l) const {
    const std::size_t begin = l == 0 ? 0 : level_end[l - 1];
    return std::span(ops).subspan(begin, level_end[l] - begin);
  }
};

// Frees move nothing and are dropped. O(n log n).
[[nodiscard]] LevelledPlan level_plan(std::span<const MemOp> ops);

}  // namespace kvstow::kernels::cuda
