#include "kernels/cuda/mem_plan_levels.h"

#include <algorithm>
#include <iterator>
#include <map>

namespace kvstow::kernels::cuda {
namespace {

// For every slot of one tier the levels of its last reader and last writer (0: none). Kept as runs
// of slots with equal levels; a run reaches to the next key.
class SlotLevels {
 public:
  // The highest level among the writers of [first, end), and among its readers if asked.
  int highest(std::int64_t first, std::int64_t end, bool readers) {
    int level = 0;
    for (auto run = split(first); run->first < end; ++run) {
      level = std::max(level, run->second.writer);
      if (readers) level = std::max(level, run->second.reader);
    }
    return level;
  }

  void read(std::int64_t first, std::int64_t end, int level) {
    split(end);
    for (auto run = split(first); run->first < end; ++run) {
      run->second.reader = std::max(run->second.reader, level);
    }
  }

  // A writer is above everything that was there: one run with its level takes their place.
  void write(std::int64_t first, std::int64_t end, int level) {
    split(end);
    const auto run = split(first);
    run->second = {0, level};
    runs_.erase(std::next(run), runs_.find(end));
  }

 private:
  struct Levels {
    int reader = 0;
    int writer = 0;
  };
  using Runs = std::map<std::int64_t, Levels>;

  // Makes a run begin at `slot`.
  Runs::iterator split(std::int64_t slot) {
    const auto after = runs_.upper_bound(slot);
    const auto run = std::prev(after);
    return run->first == slot ? run : runs_.emplace_hint(after, slot, run->second);
  }

  // The last run never ends: no slot reaches the largest number.
  Runs runs_{{INT64_MIN, {}}, {INT64_MAX, {}}};
};

}  // namespace

LevelledPlan level_plan(std::span<const MemOp> ops) {
  SlotLevels tiers[2];
  const auto tier = [&](Tier t) -> SlotLevels& { return tiers[static_cast<int>(t)]; };
  std::vector<std::size_t> level_of(ops.size());  // 0: moves nothing
  LevelledPlan plan;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const MemOp& op = ops[i];
    if (is_free(op.kind)) continue;
    SlotLevels& from = tier(op.kind == MemOpKind::swap_in ? Tier::host : Tier::device);
    SlotLevels& to = tier(op.kind == MemOpKind::swap_out ? Tier::host : Tier::device);
    const std::int64_t n = op.length.count();
    const int level = 1 + std::max(from.highest(op.src.index(), op.src.index() + n, false),
                                   to.highest(op.dst.index(), op.dst.index() + n, true));
    from.read(op.src.index(), op.src.index() + n, level);
    to.write(op.dst.index(), op.dst.index() + n, level);
    level_of[i] = static_cast<std::size_t>(level);
    if (level_of[i] > plan.level_end.size()) plan.level_end.resize(level_of[i]);
    ++plan.level_end[level_of[i] - 1];
  }
  std::vector<std::size_t> next(plan.levels());
  std::size_t end = 0;
  for (std::size_t l = 0; l < plan.levels(); ++l) {
    next[l] = end;
    plan.level_end[l] = end += plan.level_end[l];
  }
  plan.ops.resize(end);
  for (std::size_t i = 0; i < ops.size(); ++i) {
    if (level_of[i] > 0) plan.ops[next[level_of[i] - 1]++] = ops[i];
  }
  return plan;
}

}  // namespace kvstow::kernels::cuda
