// Hand-drawn cases: the paper's figures, and the rules of its artifact.
#include "core/kv/paged_allocator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/kv/checked_allocator.h"

namespace kvstow {
namespace {

using testing::ElementsAre;

PoolConfig pool(std::int64_t blocks, std::int64_t block_tokens, std::int64_t host_blocks = 0) {
  return {.device_slots = Tokens(blocks * block_tokens),
          .host_slots = Tokens(host_blocks * block_tokens),
          .block_tokens = Tokens(block_tokens),
          .max_sequence = Tokens(2048)};
}

class Paged : public testing::Test {
 protected:
  static CheckedAllocator make(const PoolConfig& config) {
    return CheckedAllocator(std::make_unique<PagedAllocator>(config));
  }
  static std::vector<SeqId> ids(SeqId::Rep first, SeqId::Rep count) {
    std::vector<SeqId> group;
    for (SeqId::Rep i = 0; i < count; ++i) group.push_back(SeqId(first + i));
    return group;
  }
  AllocStatus admit_shared(KvAllocator& allocator, std::span<const SeqId> group,
                           std::int64_t prompt, std::int64_t expected_total) {
    return allocator
        .admit({.group = group,
                .prompt = Tokens(prompt),
                .expected_total = Tokens(expected_total),
                .share_prompt = true},
               plan_)
        .status;
  }
  static std::vector<unsigned> table(const KvAllocator& allocator, SeqId::Rep id) {
    std::vector<unsigned> table;
    for (const BlockId block : allocator.view(SeqId(id)).blocks) table.push_back(block.index());
    return table;
  }
  static Tokens free_blocks(const KvAllocator& allocator, std::int64_t block_tokens) {
    return Tokens(allocator.stats(Tier::device).free().count() / block_tokens);
  }

  MemPlan plan_;
};

// Fig. 6: blocks of 4, the 7-token prompt "Four score and seven years ago our" fills one block and
// 3/4 of the next; "fathers" goes into the room that is left, "brought" opens the third block.
TEST_F(Paged, Figure6BlockTable) {
  CheckedAllocator allocator = make(pool(9, 4));
  const auto seq = ids(0, 1);
  ASSERT_EQ(allocator.admit({.group = seq, .prompt = Tokens(7), .expected_total = Tokens(9)}, plan_)
                .status,
            AllocStatus::ok);
  EXPECT_THAT(table(allocator, 0), ElementsAre(0, 1));
  EXPECT_EQ(allocator.stats(Tier::device).live, Tokens(7));
  EXPECT_EQ(allocator.stats(Tier::device).held, Tokens(8));
  ASSERT_EQ(allocator.grow(seq, Tokens(8), plan_), AllocStatus::ok);
  EXPECT_THAT(table(allocator, 0), ElementsAre(0, 1));
  ASSERT_EQ(allocator.grow(seq, Tokens(9), plan_), AllocStatus::ok);
  EXPECT_THAT(table(allocator, 0), ElementsAre(0, 1, 2));
  EXPECT_EQ(allocator.view(SeqId(0)).slot(Tokens(8)), Slot(8));
  EXPECT_TRUE(plan_.empty());
}

// Fig. 8: samples A1 and A2 share the prompt's two blocks. A1 writes first and copies the three
// filled slots of the last one; A2 is then its only owner and writes in place.
TEST_F(Paged, Figure8CopyOnWrite) {
  CheckedAllocator allocator = make(pool(8, 4));
  const auto samples = ids(0, 2);
  ASSERT_EQ(admit_shared(allocator, samples, 7, 12), AllocStatus::ok);
  EXPECT_EQ(allocator.stats(Tier::device).held, Tokens(8));
  EXPECT_EQ(allocator.stats(Tier::device).logical, Tokens(14));
  ASSERT_EQ(allocator.grow(samples, Tokens(8), plan_), AllocStatus::ok);
  EXPECT_THAT(table(allocator, 0), ElementsAre(0, 2));
  EXPECT_THAT(table(allocator, 1), ElementsAre(0, 1));
  ASSERT_EQ(plan_.ops().size(), 1u);
  EXPECT_EQ(plan_.ops()[0].kind, MemOpKind::copy);
  EXPECT_EQ(plan_.ops()[0].src, Slot(1 * 4));
  EXPECT_EQ(plan_.ops()[0].dst, Slot(2 * 4));
  EXPECT_EQ(plan_.ops()[0].length, Tokens(3));
  EXPECT_EQ(allocator.stats(Tier::device).live, Tokens(4 + 4 + 4));
  allocator.check_invariants(CheckLevel::full);
}

// Fig. 9: four beams in blocks of 4. Beams 0-2 share their first three blocks and differ in the
// fourth; beam 3 left after the first block. The next four candidates all come from beams 1 and 2:
// beams 0 and 3 die, and the blocks that only they used are freed (the figure's 2, 4, 5 and 8).
TEST_F(Paged, Figure9BeamSearch) {
  CheckedAllocator allocator = make(pool(24, 4));
  const auto beams = ids(0, 4);
  ASSERT_EQ(admit_shared(allocator, beams, 4, 20), AllocStatus::ok);
  // All write their second and third blocks; beams 1 and 2 then take over beam 0's.
  ASSERT_EQ(allocator.grow(beams, Tokens(12), plan_), AllocStatus::ok);
  const std::vector<Fork> from_leader = {{SeqId(0), SeqId(1)}, {SeqId(0), SeqId(2)}};
  ASSERT_EQ(allocator.reorder(from_leader, plan_), AllocStatus::ok);
  ASSERT_EQ(allocator.grow(beams, Tokens(16), plan_), AllocStatus::ok);
  const auto t0 = table(allocator, 0), t1 = table(allocator, 1), t2 = table(allocator, 2),
             t3 = table(allocator, 3);
  ASSERT_EQ(t0.size(), 4u);
  EXPECT_TRUE(std::equal(t0.begin(), t0.begin() + 3, t1.begin()));
  EXPECT_TRUE(std::equal(t0.begin(), t0.begin() + 3, t2.begin()));
  EXPECT_NE(t1[3], t2[3]);
  EXPECT_EQ(t3[0], t0[0]);
  EXPECT_NE(t3[1], t0[1]);
  EXPECT_EQ(free_blocks(allocator, 4), Tokens(24 - (1 + 2 + 3 + 3)));

  plan_.clear();
  const std::vector<Fork> forks = {{SeqId(1), SeqId(0)}, {SeqId(2), SeqId(3)}};
  ASSERT_EQ(allocator.reorder(forks, plan_), AllocStatus::ok);
  std::vector<std::int64_t> freed;
  for (const MemOp& op : plan_.ops()) {
    ASSERT_EQ(op.kind, MemOpKind::free_device);
    for (std::int64_t b = 0; b < op.length.count() / 4; ++b) {
      freed.push_back(op.src.index() / 4 + b);
    }
  }
  EXPECT_THAT(freed, testing::UnorderedElementsAre(t0[3], t3[1], t3[2], t3[3]));
  EXPECT_EQ(table(allocator, 0), t1);
  EXPECT_EQ(table(allocator, 3), t2);
  ASSERT_EQ(allocator.grow(beams, Tokens(17), plan_), AllocStatus::ok);  // four new blocks
  EXPECT_EQ(free_blocks(allocator, 4), Tokens(24 - (3 + 2 + 4)));
  allocator.check_invariants(CheckLevel::full);
}

TEST_F(Paged, TheFreeListIsLastInFirstOut) {
  CheckedAllocator allocator = make(pool(8, 4));
  const auto a = ids(0, 1), b = ids(1, 1), c = ids(2, 1);
  const auto admit = [&](const std::vector<SeqId>& seq) {
    return allocator.admit({.group = seq, .prompt = Tokens(8), .expected_total = Tokens(8)}, plan_)
        .status;
  };
  ASSERT_EQ(admit(a), AllocStatus::ok);
  ASSERT_EQ(admit(b), AllocStatus::ok);
  allocator.release(SeqId(0), plan_);
  ASSERT_EQ(plan_.ops().size(), 1u);  // two neighbouring blocks, one free operation
  EXPECT_EQ(plan_.ops()[0].length, Tokens(8));
  ASSERT_EQ(admit(c), AllocStatus::ok);
  EXPECT_THAT(table(allocator, 2), ElementsAre(0, 1));
}

// A beam's own blocks are freed in the order of its table: again one operation.
TEST_F(Paged, NeighboursFreedUpwardsAreOneOperation) {
  CheckedAllocator allocator = make(pool(8, 4));
  const auto beams = ids(0, 2);
  ASSERT_EQ(admit_shared(allocator, beams, 4, 12), AllocStatus::ok);
  ASSERT_EQ(allocator.grow(beams, Tokens(12), plan_), AllocStatus::ok);
  EXPECT_THAT(table(allocator, 1), ElementsAre(0, 3, 4));
  ASSERT_EQ(allocator.reorder(std::vector<Fork>{{SeqId(0), SeqId(1)}}, plan_), AllocStatus::ok);
  ASSERT_EQ(plan_.ops().size(), 1u);
  EXPECT_EQ(plan_.ops()[0].src, Slot(3 * 4));
  EXPECT_EQ(plan_.ops()[0].length, Tokens(2 * 4));
}

TEST_F(Paged, MetadataIsThePoolsListsAndTheTables) {
  CheckedAllocator allocator = make(pool(8, 4));
  const auto pair = ids(0, 2);
  EXPECT_EQ(allocator.stats(Tier::device).metadata, Bytes(8 * (4 + 4)));
  ASSERT_EQ(admit_shared(allocator, pair, 7, 8), AllocStatus::ok);
  EXPECT_EQ(allocator.stats(Tier::device).metadata, Bytes(8 * (4 + 4) + 2 * 2 * 4));
}

// The artifact's admission rule: free - needed >= watermark.
TEST_F(Paged, AdmitsDownToTheWatermark) {
  CheckedAllocator allocator = make(pool(10, 16));
  const auto a = ids(0, 1), b = ids(1, 1), c = ids(2, 1);
  const auto admit = [&](const std::vector<SeqId>& seq, std::int64_t prompt) {
    return allocator
        .admit({.group = seq,
                .prompt = Tokens(prompt),
                .expected_total = Tokens(prompt),
                .keep_free = Tokens(2 * 16)},
               plan_)
        .status;
  };
  EXPECT_EQ(admit(a, 5 * 16), AllocStatus::ok);
  EXPECT_EQ(admit(b, 3 * 16 + 1), AllocStatus::no_memory);  // 5 free - 4 < 2
  EXPECT_EQ(admit(c, 3 * 16), AllocStatus::ok);             // 5 free - 3 = 2
}

// The artifact's growth rule: refused while fewer blocks are free than the group has sequences,
// even though none of them opens a block here.
TEST_F(Paged, GrowWantsABlockPerSequence) {
  CheckedAllocator allocator = make(pool(8, 16));
  const auto pair = ids(0, 2), other = ids(2, 1);
  ASSERT_EQ(
      allocator.admit({.group = pair, .prompt = Tokens(17), .expected_total = Tokens(32)}, plan_)
          .status,
      AllocStatus::ok);  // 4 blocks
  ASSERT_EQ(
      allocator.admit({.group = other, .prompt = Tokens(48), .expected_total = Tokens(48)}, plan_)
          .status,
      AllocStatus::ok);  // 3 more: 1 is left
  EXPECT_EQ(allocator.grow(pair, Tokens(18), plan_), AllocStatus::no_memory);
  EXPECT_EQ(allocator.grow(pair, Tokens(17), plan_), AllocStatus::ok);  // changes nothing
  EXPECT_EQ(allocator.grow(std::span(pair).first(1), Tokens(18), plan_), AllocStatus::ok);
  allocator.release(SeqId(2), plan_);
  EXPECT_EQ(allocator.grow(pair, Tokens(18), plan_), AllocStatus::ok);
}

// The artifact's swap-in rule: free - (blocks + sequences) >= watermark.
TEST_F(Paged, SwapInLeavesRoomToGrow) {
  CheckedAllocator allocator = make(pool(10, 16, 10));
  const auto pair = ids(0, 2), other = ids(2, 1);
  ASSERT_EQ(
      allocator.admit({.group = pair, .prompt = Tokens(20), .expected_total = Tokens(32)}, plan_)
          .status,
      AllocStatus::ok);  // 4 blocks
  ASSERT_EQ(allocator.swap_out(pair, plan_), AllocStatus::ok);
  ASSERT_EQ(
      allocator
          .admit({.group = other, .prompt = Tokens(3 * 16), .expected_total = Tokens(64)}, plan_)
          .status,
      AllocStatus::ok);  // 7 are left: 7 - (4 + 2) = 1
  EXPECT_EQ(allocator.swap_in(pair, Tokens(2 * 16), plan_), AllocStatus::no_memory);
  EXPECT_EQ(allocator.swap_in(pair, Tokens(1 * 16), plan_), AllocStatus::ok);
}

TEST_F(Paged, FitsEmptyPoolCountsGrowthAndWatermark) {
  const PagedAllocator allocator(pool(603, 16));  // OPT-66B
  const auto six = ids(0, 6);
  const auto fits = [&](std::int64_t blocks_each, std::int64_t watermark) {
    return allocator.fits_empty_pool({.group = six,
                                      .prompt = Tokens(1),
                                      .expected_total = Tokens(blocks_each * 16),
                                      .keep_free = Tokens(watermark * 16)});
  };
  EXPECT_FALSE(fits(128, 6));  // 768 of 603
  EXPECT_TRUE(fits(98, 9));    // 588 + 6 + 9 = 603
  EXPECT_FALSE(fits(98, 10));
}

// Whole blocks of a prefix by reference, the tokens of its last one as a copy.
TEST_F(Paged, APrefixLendsItsBlocks) {
  CheckedAllocator allocator = make(pool(16, 4));
  const auto lender = ids(0, 1), borrowers = ids(1, 2);
  ASSERT_EQ(
      allocator.admit({.group = lender, .prompt = Tokens(10), .expected_total = Tokens(10)}, plan_)
          .status,
      AllocStatus::ok);
  const AllocResult result = allocator.admit({.group = borrowers,
                                              .prompt = Tokens(13),
                                              .expected_total = Tokens(14),
                                              .share_prompt = true,
                                              .prefix = SeqId(0),
                                              .prefix_tokens = Tokens(10)},
                                             plan_);
  ASSERT_EQ(result.status, AllocStatus::ok);
  EXPECT_EQ(result.cached, Tokens(10));
  EXPECT_THAT(table(allocator, 0), ElementsAre(0, 1, 2));
  EXPECT_THAT(table(allocator, 1), ElementsAre(0, 1, 3, 4));
  EXPECT_EQ(table(allocator, 2), table(allocator, 1));
  ASSERT_EQ(plan_.ops().size(), 1u);
  EXPECT_EQ(plan_.ops()[0].src, Slot(2 * 4));
  EXPECT_EQ(plan_.ops()[0].dst, Slot(3 * 4));
  EXPECT_EQ(plan_.ops()[0].length, Tokens(2));
  EXPECT_EQ(allocator.stats(Tier::device).live, Tokens(10 + 13 - 8));
  EXPECT_EQ(allocator.stats(Tier::device).logical, Tokens(10 + 13 + 13));
}

TEST_F(Paged, APrefixLongerThanItsLenderIsABug) {
  PagedAllocator allocator(pool(16, 4));  // the checker would find it, too
  const auto lender = ids(0, 1), borrower = ids(1, 1);
  ASSERT_EQ(
      allocator.admit({.group = lender, .prompt = Tokens(10), .expected_total = Tokens(10)}, plan_)
          .status,
      AllocStatus::ok);
  EXPECT_THROW(allocator.admit({.group = borrower,
                                .prompt = Tokens(13),
                                .expected_total = Tokens(14),
                                .prefix = SeqId(0),
                                .prefix_tokens = Tokens(11)},
                               plan_),
               InvariantError);
}

TEST_F(Paged, APrefixOnTheHostLendsNothing) {
  CheckedAllocator allocator = make(pool(16, 4, 16));
  const auto lender = ids(0, 1), borrower = ids(1, 1);
  ASSERT_EQ(
      allocator.admit({.group = lender, .prompt = Tokens(10), .expected_total = Tokens(10)}, plan_)
          .status,
      AllocStatus::ok);
  ASSERT_EQ(allocator.swap_out(lender, plan_), AllocStatus::ok);
  const AllocResult result = allocator.admit({.group = borrower,
                                              .prompt = Tokens(13),
                                              .expected_total = Tokens(14),
                                              .prefix = SeqId(0),
                                              .prefix_tokens = Tokens(10)},
                                             plan_);
  EXPECT_EQ(result.status, AllocStatus::ok);
  EXPECT_EQ(result.cached, Tokens(0));
}

}  // namespace
}  // namespace kvstow
