// What is particular to allocators of extents: reservation, no_memory against fragmented, whole
// copies of a parent, growth beyond the reservation.
#include <gtest/gtest.h>

#include "baselines/buddy_allocator.h"
#include "baselines/contiguous_allocator.h"
#include "core/kv/checked_allocator.h"

namespace kvstow {
namespace {

PoolConfig pool(std::int64_t blocks) {
  return {.device_slots = Tokens(blocks * 16),
          .host_slots = Tokens(blocks * 16),
          .block_tokens = Tokens(16),
          .max_sequence = Tokens(2048)};
}

std::vector<SeqId> ids(SeqId::Rep first, SeqId::Rep count) {
  std::vector<SeqId> group;
  for (SeqId::Rep i = 0; i < count; ++i) group.push_back(SeqId(first + i));
  return group;
}

class Extents : public testing::Test {
 protected:
  AllocStatus admit(KvAllocator& allocator, const std::vector<SeqId>& group, std::int64_t prompt,
                    std::int64_t expected) {
    const AdmitRequest request{.group = group,
                               .prompt = Tokens(prompt),
                               .expected_total = Tokens(expected),
                               .share_prompt = true};
    return allocator.admit(request, plan_).status;
  }

  MemPlan plan_;
};

TEST_F(Extents, BuddyReservesTheRoundedTotal) {
  CheckedAllocator allocator(make_buddy_allocator(pool(983)));
  EXPECT_EQ(admit(allocator, ids(0, 1), 100, 600), AllocStatus::ok);  // 38 blocks -> 64
  EXPECT_EQ(allocator.stats(Tier::device).held, Tokens(64 * 16));
  EXPECT_EQ(allocator.stats(Tier::device).live, Tokens(100));
  EXPECT_EQ(allocator.view(SeqId(0)).first, Slot(896 * 16));
  EXPECT_EQ(admit(allocator, ids(1, 1), 1, 2049), AllocStatus::never);
}

TEST_F(Extents, BuddyHoldsSevenFullLengthsOfOpt13b) {  // Orca (Max): Fig. 13's 7.00
  CheckedAllocator allocator(make_buddy_allocator(pool(983)));
  for (SeqId::Rep i = 0; i < 7; ++i) {
    ASSERT_EQ(admit(allocator, ids(i, 1), 50, 2048), AllocStatus::ok);
  }
  EXPECT_EQ(admit(allocator, ids(7, 1), 50, 2048), AllocStatus::no_memory);
}

TEST_F(Extents, ASampleIsAReservationOfItsOwn) {
  CheckedAllocator allocator(make_buddy_allocator(pool(983)));
  EXPECT_EQ(admit(allocator, ids(0, 4), 100, 256), AllocStatus::ok);
  EXPECT_EQ(allocator.stats(Tier::device).live, Tokens(4 * 100));  // the prompt, four times
  EXPECT_EQ(allocator.stats(Tier::device).held, Tokens(4 * 256));
}

TEST_F(Extents, BuddyRoundingCanFragment) {
  CheckedAllocator allocator(make_buddy_allocator(pool(128)));
  ASSERT_EQ(admit(allocator, ids(0, 1), 16, 32 * 16), AllocStatus::ok);
  // 96 blocks are free: enough for 90, but not as a chunk of 128.
  EXPECT_EQ(admit(allocator, ids(1, 1), 16, 90 * 16), AllocStatus::fragmented);
  EXPECT_EQ(admit(allocator, ids(1, 1), 16, 97 * 16), AllocStatus::no_memory);
  EXPECT_EQ(admit(allocator, ids(1, 1), 16, 64 * 16), AllocStatus::ok);
}

TEST_F(Extents, ContiguousTellsFragmentedFromFull) {
  for (const auto make : {make_first_fit_allocator, make_best_fit_allocator}) {
    CheckedAllocator allocator(make(pool(40)));
    for (SeqId::Rep i = 0; i < 4; ++i) {
      ASSERT_EQ(admit(allocator, ids(i, 1), 16, 160), AllocStatus::ok);
    }
    allocator.release(SeqId(0), plan_);
    allocator.release(SeqId(2), plan_);
    EXPECT_EQ(admit(allocator, ids(4, 1), 16, 11 * 16), AllocStatus::fragmented);  // 10 + 10 free
    EXPECT_EQ(admit(allocator, ids(4, 1), 16, 21 * 16), AllocStatus::no_memory);
    EXPECT_EQ(admit(allocator, ids(4, 2), 16, 160), AllocStatus::ok);
  }
}

TEST_F(Extents, ABeamThatIsTakenOverIsCopiedWhole) {
  CheckedAllocator allocator(make_first_fit_allocator(pool(40)));
  ASSERT_EQ(admit(allocator, ids(0, 3), 30, 64), AllocStatus::ok);
  plan_.clear();
  const std::vector<Fork> chain = {{SeqId(0), SeqId(1)}, {SeqId(1), SeqId(2)}};
  ASSERT_EQ(allocator.reorder(chain, plan_), AllocStatus::ok);
  ASSERT_EQ(plan_.ops().size(), 2u);  // leaf first: 1 -> 2 before 0 -> 1
  EXPECT_EQ(plan_.ops()[0].src, Slot(4 * 16));
  EXPECT_EQ(plan_.ops()[0].dst, Slot(8 * 16));
  EXPECT_EQ(plan_.ops()[0].length, Tokens(30));
  EXPECT_EQ(plan_.ops()[1].src, Slot(0));
  EXPECT_EQ(plan_.ops()[1].dst, Slot(4 * 16));

  plan_.clear();
  const std::vector<Fork> names = {{SeqId(0), SeqId(1)}, {SeqId(1), SeqId(0)}};
  ASSERT_EQ(allocator.reorder(names, plan_), AllocStatus::ok);  // no beam died: only a new name
  EXPECT_TRUE(plan_.empty());
  EXPECT_EQ(allocator.view(SeqId(0)).first, Slot(4 * 16));
  EXPECT_EQ(allocator.view(SeqId(1)).first, Slot(0));
}

TEST_F(Extents, GrowthBeyondTheReservationExtendsInPlaceOrFails) {
  for (const auto make :
       {make_first_fit_allocator, make_best_fit_allocator, make_buddy_allocator}) {
    CheckedAllocator allocator(make(pool(64)));
    const auto a = ids(0, 1), b = ids(1, 1);
    ASSERT_EQ(admit(allocator, a, 16, 64), AllocStatus::ok);
    ASSERT_EQ(admit(allocator, b, 16, 64), AllocStatus::ok);
    const Slot first = allocator.view(SeqId(0)).first;
    EXPECT_EQ(allocator.grow(a, Tokens(64), plan_), AllocStatus::ok);
    EXPECT_EQ(allocator.grow(a, Tokens(65), plan_), AllocStatus::fragmented);  // b is behind it
    allocator.release(SeqId(1), plan_);
    EXPECT_EQ(allocator.grow(a, Tokens(100), plan_), AllocStatus::ok);
    EXPECT_EQ(allocator.view(SeqId(0)).first, first);
    EXPECT_EQ(allocator.grow(a, Tokens(64 * 16 + 1), plan_), AllocStatus::no_memory);
    allocator.check_invariants(CheckLevel::full);
  }
}

TEST_F(Extents, TheHostHoldsFilledBlocksOnly) {
  CheckedAllocator allocator(make_best_fit_allocator(pool(64)));
  const auto group = ids(0, 2);
  ASSERT_EQ(admit(allocator, group, 20, 320), AllocStatus::ok);
  ASSERT_EQ(allocator.swap_out(group, plan_), AllocStatus::ok);
  EXPECT_EQ(allocator.stats(Tier::host).held, Tokens(2 * 2 * 16));
  ASSERT_EQ(allocator.swap_in(group, Tokens(0), plan_), AllocStatus::ok);
  EXPECT_EQ(allocator.stats(Tier::device).held, Tokens(2 * 320));
}

}  // namespace
}  // namespace kvstow
