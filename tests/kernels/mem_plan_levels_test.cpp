// Levels of a MemPlan: what one level holds may run in any order.
#include "kernels/cuda/mem_plan_levels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/rng.h"
#include "tests/kernels/random_plan.h"

namespace kvstow::kernels::cuda {
namespace {

using ::testing::ElementsAre;

// Number of operations in each level.
std::vector<std::size_t> sizes(const MemPlan& plan) {
  const LevelledPlan levelled = level_plan(plan.ops());
  std::vector<std::size_t> out;
  for (std::size_t l = 0; l < levelled.levels(); ++l) out.push_back(levelled.level(l).size());
  return out;
}

TEST(MemPlanLevels, SwapsAndForksOfOneBlockNeedOneLevel) {
  MemPlan plan;
  for (int i = 1; i < 5; ++i) plan.copy(Slot(0), Slot(16 * i), Tokens(16));
  plan.swap_out(Slot(0), Slot(0), Tokens(16));
  plan.swap_in(Slot(32), Slot(100), Tokens(8));
  plan.free(Tier::device, Slot(0), Tokens(16));
  EXPECT_THAT(sizes(plan), ElementsAre(6));
}

TEST(MemPlanLevels, AChainIsALevelForEachLink) {
  MemPlan plan;
  plan.copy(Slot(0), Slot(10), Tokens(4));
  plan.copy(Slot(13), Slot(20), Tokens(4));  // reads a slot that the first one writes
  plan.copy(Slot(20), Slot(30), Tokens(1));
  plan.copy(Slot(50), Slot(60), Tokens(4));
  EXPECT_THAT(sizes(plan), ElementsAre(2, 1, 1));
}

TEST(MemPlanLevels, AnExtentIsReusedAfterItsLastReader) {
  MemPlan plan;
  plan.swap_out(Slot(8), Slot(0), Tokens(4));
  plan.free(Tier::device, Slot(8), Tokens(4));
  plan.copy(Slot(0), Slot(10), Tokens(4));  // writes over what is being swapped out
  plan.swap_in(Slot(0), Slot(30), Tokens(4));
  EXPECT_THAT(sizes(plan), ElementsAre(1, 2));
}

TEST(MemPlanLevels, TheSameSlotOfTheOtherTierIsAnother) {
  MemPlan plan;
  plan.swap_out(Slot(0), Slot(16), Tokens(8));
  plan.copy(Slot(16), Slot(32), Tokens(8));
  EXPECT_THAT(sizes(plan), ElementsAre(2));
}

TEST(MemPlanLevels, AnEmptyPlanHasNone) {
  MemPlan plan;
  plan.free(Tier::host, Slot(3), Tokens(1));
  EXPECT_EQ(level_plan(plan.ops()).levels(), 0u);
}

// Slots as single numbers.
struct Tiers {
  std::vector<int> device;
  std::vector<int> host;

  void run(const MemOp& op) {
    const auto& from = op.kind == MemOpKind::swap_in ? host : device;
    auto& to = op.kind == MemOpKind::swap_out ? host : device;
    std::copy_n(from.begin() + op.src.index(), op.length.count(), to.begin() + op.dst.index());
  }
};

// Chains, cycles and reused extents come by themselves in 40 operations on 60 slots.
TEST(MemPlanLevels, AnyOrderWithinLevelsGivesWhatThePlanGives) {
  RandomStream random(3, "levels");
  for (int round = 0; round < 2000; ++round) {
    const MemPlan plan = random_plan(random, {60, 30}, 1 + static_cast<int>(random.below(40)));
    Tiers want{std::vector<int>(60), std::vector<int>(30)};
    std::iota(want.device.begin(), want.device.end(), 0);
    std::iota(want.host.begin(), want.host.end(), 1000);
    Tiers got = want;
    for (const MemOp& op : plan.ops()) {
      if (!is_free(op.kind)) want.run(op);
    }
    LevelledPlan levelled = level_plan(plan.ops());
    for (std::size_t l = 0; l < levelled.levels(); ++l) {
      const auto level = levelled.level(l);
      std::vector<MemOp> ops(level.begin(), level.end());
      for (std::size_t i = ops.size(); i > 1; --i) {
        std::swap(ops[i - 1], ops[random.below(static_cast<std::uint32_t>(i))]);
      }
      for (const MemOp& op : ops) got.run(op);
    }
    ASSERT_EQ(got.device, want.device) << round;
    ASSERT_EQ(got.host, want.host) << round;
  }
}

}  // namespace
}  // namespace kvstow::kernels::cuda
