// What every registered allocator promises. A CheckedAllocator around each proves by a shadow
// memory that what was written is read back; here are the situations.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "bench/registry/allocators.h"
#include "core/kv/checked_allocator.h"
#include "tests/kv/random_ops.h"

namespace kvstow {
namespace {

constexpr PoolConfig kPool{.device_slots = Tokens(64 * 16),
                           .host_slots = Tokens(64 * 16),
                           .block_tokens = Tokens(16),
                           .max_sequence = Tokens(512)};

std::vector<SeqId> ids(SeqId::Rep first, SeqId::Rep count) {
  std::vector<SeqId> group;
  for (SeqId::Rep i = 0; i < count; ++i) group.push_back(SeqId(first + i));
  return group;
}

// Slots of a sequence's view, position by position.
std::vector<std::int64_t> slots(const KvAllocator& allocator, SeqId id, Tokens length) {
  const KvView view = allocator.view(id);
  std::vector<std::int64_t> slots;
  for (Tokens p(0); p < length; ++p) slots.push_back(view.slot(p).index());
  return slots;
}

class Conformance : public testing::TestWithParam<std::string_view> {
 protected:
  static CheckedAllocator make(const PoolConfig& pool = kPool) {
    return CheckedAllocator(make_allocator(GetParam(), pool));
  }

  static void expect_empty(const KvAllocator& allocator) {
    allocator.check_invariants(CheckLevel::full);
    for (const Tier tier : {Tier::device, Tier::host}) {
      const KvStats stats = allocator.stats(tier);
      EXPECT_EQ(stats.held, Tokens(0));
      EXPECT_EQ(stats.live, Tokens(0));
      EXPECT_EQ(stats.logical, Tokens(0));
      EXPECT_EQ(stats.free(), stats.capacity);
    }
  }

  MemPlan plan_;
};

TEST_P(Conformance, KnowsItsName) {
  EXPECT_EQ(make().name(), GetParam());
}

TEST_P(Conformance, OneSequenceLivesAndLeaves) {
  CheckedAllocator allocator = make();
  const auto group = ids(0, 1);
  const AdmitRequest request{.group = group, .prompt = Tokens(7), .expected_total = Tokens(100)};
  ASSERT_EQ(allocator.admit(request, plan_).status, AllocStatus::ok);
  for (Tokens length(8); length <= Tokens(100); ++length) {
    ASSERT_EQ(allocator.grow(group, length, plan_), AllocStatus::ok);
  }
  EXPECT_TRUE(plan_.empty());  // one sequence, nothing shared: no data ever moves
  EXPECT_EQ(allocator.stats(Tier::device).live, Tokens(100));
  allocator.check_invariants(CheckLevel::full);
  allocator.release(group[0], plan_);
  expect_empty(allocator);
}

TEST_P(Conformance, GrowToTheSameLengthIsANoOp) {
  CheckedAllocator allocator = make();
  const auto group = ids(0, 3);
  ASSERT_EQ(allocator
                .admit({.group = group,
                        .prompt = Tokens(20),
                        .expected_total = Tokens(40),
                        .share_prompt = true},
                       plan_)
                .status,
            AllocStatus::ok);
  for (const Tokens length : {Tokens(20), Tokens(21)}) {
    ASSERT_EQ(allocator.grow(group, length, plan_), AllocStatus::ok);
    const std::size_t ops = plan_.ops().size();
    const Tokens held = allocator.stats(Tier::device).held;
    ASSERT_EQ(allocator.grow(group, length, plan_), AllocStatus::ok);
    EXPECT_EQ(plan_.ops().size(), ops);
    EXPECT_EQ(allocator.stats(Tier::device).held, held);
  }
}

TEST_P(Conformance, BlocksOfAnySizeAndPoolsOfAnySize) {
  for (const std::int64_t block : {1, 2, 7, 16, 100, 256}) {
    for (const std::int64_t spare : {0, 1, 5}) {
      PoolConfig pool = kPool;
      pool.block_tokens = Tokens(block);
      pool.device_slots = Tokens(512 / block * block + std::min(spare, block - 1));
      CheckedAllocator allocator = make(pool);
      EXPECT_EQ(allocator.stats(Tier::device).capacity, Tokens(512 / block * block));
      const auto group = ids(0, 1);
      ASSERT_EQ(
          allocator
              .admit({.group = group, .prompt = Tokens(9), .expected_total = Tokens(77)}, plan_)
              .status,
          AllocStatus::ok);
      ASSERT_EQ(allocator.grow(group, Tokens(77), plan_), AllocStatus::ok);
      allocator.check_invariants(CheckLevel::full);
      allocator.release(group[0], plan_);
      expect_empty(allocator);
    }
  }
}

TEST_P(Conformance, ABadPoolIsBadInput) {
  PoolConfig pool = kPool;
  pool.block_tokens = Tokens(0);
  EXPECT_THROW(make(pool), InputError);
  pool = kPool;
  pool.device_slots = Tokens(-1);
  EXPECT_THROW(make(pool), InputError);
  pool.device_slots = Tokens(std::int64_t{1} << 40);
  EXPECT_THROW(make(pool), InputError);
}

TEST_P(Conformance, NeverIsSaidOfWhatCannotFitAnEmptyPool) {
  CheckedAllocator allocator = make();
  const auto group = ids(0, 6);
  const AdmitRequest six{
      .group = group, .prompt = Tokens(10), .expected_total = Tokens(400), .share_prompt = true};
  EXPECT_FALSE(allocator.fits_empty_pool(six));  // 6 * 400 > 1024, unshared
  EXPECT_EQ(allocator.admit(six, plan_).status, AllocStatus::never);
  AdmitRequest one = six;
  one.group = std::span(group).first(1);
  EXPECT_TRUE(allocator.fits_empty_pool(one));
  one.keep_free = Tokens(63 * 16);
  EXPECT_EQ(allocator.admit(one, plan_).status, AllocStatus::never);
  expect_empty(allocator);
}

// The promise of fits_empty_pool: a lone group reaches its full length, unshared, and comes back
// after a swap whenever it is swapped out.
TEST_P(Conformance, ALoneGroupThatFitsReachesItsEnd) {
  for (const SeqId::Rep width : {1u, 2u, 3u, 6u}) {
    for (const Tokens keep_free : {Tokens(0), Tokens(32)}) {
      const auto group = ids(0, width);
      AdmitRequest request{
          .group = group, .prompt = Tokens(5), .keep_free = keep_free, .share_prompt = true};
      CheckedAllocator allocator = make();
      request.expected_total = Tokens(512);
      while (request.expected_total > request.prompt && !allocator.fits_empty_pool(request)) {
        request.expected_total -= Tokens(1);
      }
      ASSERT_TRUE(allocator.fits_empty_pool(request)) << "not even its prompt";
      ASSERT_EQ(allocator.admit(request, plan_).status, AllocStatus::ok);
      for (Tokens length(6); length <= request.expected_total; ++length) {
        ASSERT_EQ(allocator.grow(group, length, plan_), AllocStatus::ok) << length.count();
        if (length % Tokens(13) == 0) {
          ASSERT_EQ(allocator.swap_out(group, plan_), AllocStatus::ok);
          ASSERT_EQ(allocator.swap_in(group, keep_free, plan_), AllocStatus::ok) << length.count();
        }
      }
      for (const SeqId id : group) allocator.release(id, plan_);
      expect_empty(allocator);
    }
  }
}

TEST_P(Conformance, AGroupIsTakenWholeOrNotAtAll) {
  CheckedAllocator allocator = make();
  const auto first = ids(0, 1);
  ASSERT_EQ(
      allocator.admit({.group = first, .prompt = Tokens(500), .expected_total = Tokens(500)}, plan_)
          .status,
      AllocStatus::ok);
  const auto group = ids(1, 4);  // 4 * 200 would fit an empty pool, and 2 of them fit this one
  const AdmitRequest request{.group = group, .prompt = Tokens(190), .expected_total = Tokens(200)};
  ASSERT_TRUE(allocator.fits_empty_pool(request));
  const KvStats before = allocator.stats(Tier::device);
  EXPECT_EQ(allocator.admit(request, plan_).status, AllocStatus::no_memory);
  EXPECT_TRUE(plan_.empty());
  EXPECT_EQ(allocator.stats(Tier::device).held, before.held);
  allocator.check_invariants(CheckLevel::full);
}

// And is all that is kept free: an allocator that grants more than was asked for (whole
// superblocks, say) may refuse where less than such a grant is left.
TEST_P(Conformance, KeepFreeStaysFreeAndNoMore) {
  CheckedAllocator allocator = make();
  SeqId::Rep next = 0;
  Tokens granted(0);
  for (;;) {
    const auto group = ids(next, 1);
    const AdmitRequest request{.group = group,
                               .prompt = Tokens(60),
                               .expected_total = Tokens(64),
                               .keep_free = Tokens(10 * 16)};
    if (allocator.admit(request, plan_).status != AllocStatus::ok) break;
    if (next++ == 0) granted = allocator.stats(Tier::device).held;
    EXPECT_GE(allocator.stats(Tier::device).free(), Tokens(10 * 16));
  }
  ASSERT_GT(next, 0u);
  EXPECT_LT(allocator.stats(Tier::device).free() - Tokens(10 * 16), granted);
}

TEST_P(Conformance, ForksOfEveryShape) {
  const std::vector<std::vector<std::pair<int, int>>> shapes = {
      {},                                // nothing
      {{0, 0}, {1, 1}},                  // everybody goes on
      {{0, 1}},                          // one dies
      {{2, 0}, {2, 1}, {2, 3}},          // one survives
      {{0, 1}, {1, 2}, {2, 3}},          // a chain: each takes its neighbour's OLD tokens
      {{3, 2}, {2, 1}, {1, 0}},          // the same the other way
      {{0, 1}, {1, 0}},                  // two change names
      {{0, 1}, {1, 2}, {2, 3}, {3, 0}},  // a cycle
      {{1, 0}, {0, 1}, {1, 2}, {1, 3}},  // a cycle with leaves
      {{1, 0}, {2, 1}, {0, 2}, {2, 3}},  // a longer one with a leaf
      {{1, 0}, {0, 1}, {3, 2}, {2, 3}},  // two cycles
  };
  for (const bool share_prompt : {true, false}) {
    CheckedAllocator allocator = make();
    const auto group = ids(0, 4);
    ASSERT_EQ(allocator
                  .admit({.group = group,
                          .prompt = Tokens(21),
                          .expected_total = Tokens(200),
                          .share_prompt = share_prompt},
                         plan_)
                  .status,
              AllocStatus::ok);
    Tokens length(21);
    for (int round = 0; round < 3; ++round) {
      for (const auto& shape : shapes) {
        std::vector<Fork> forks;
        for (const auto& [parent, child] : shape) {
          forks.push_back(
              {SeqId(static_cast<SeqId::Rep>(parent)), SeqId(static_cast<SeqId::Rep>(child))});
        }
        plan_.clear();
        ASSERT_EQ(allocator.reorder(forks, plan_), AllocStatus::ok);
        allocator.check_invariants(CheckLevel::full);
        length += Tokens(3);
        ASSERT_EQ(allocator.grow(group, length, plan_), AllocStatus::ok);
        allocator.check_invariants(CheckLevel::full);
      }
    }
    for (const SeqId id : group) allocator.release(id, plan_);
    expect_empty(allocator);
  }
}

TEST_P(Conformance, WhatIsSharedMovesOnceAndStaysShared) {
  CheckedAllocator allocator = make();
  const auto group = ids(0, 3);
  ASSERT_EQ(allocator
                .admit({.group = group,
                        .prompt = Tokens(40),
                        .expected_total = Tokens(60),
                        .share_prompt = true},
                       plan_)
                .status,
            AllocStatus::ok);
  ASSERT_EQ(allocator.grow(group, Tokens(41), plan_), AllocStatus::ok);
  const KvStats before = allocator.stats(Tier::device);
  plan_.clear();
  ASSERT_EQ(allocator.swap_out(group, plan_), AllocStatus::ok);
  Tokens moved(0);
  for (const MemOp& op : plan_.ops()) {
    if (op.kind == MemOpKind::swap_out) moved += op.length;
  }
  EXPECT_EQ(moved, before.live);
  EXPECT_EQ(allocator.stats(Tier::host).live, before.live);
  EXPECT_EQ(allocator.stats(Tier::device).held, Tokens(0));
  allocator.check_invariants(CheckLevel::full);
  ASSERT_EQ(allocator.swap_in(group, Tokens(0), plan_), AllocStatus::ok);
  EXPECT_EQ(allocator.stats(Tier::device).live, before.live);
  EXPECT_EQ(allocator.stats(Tier::host).held, Tokens(0));
  ASSERT_EQ(allocator.grow(group, Tokens(60), plan_), AllocStatus::ok);
  ASSERT_EQ(allocator.swap_out(group, plan_), AllocStatus::ok);
  for (const SeqId id : group) allocator.release(id, plan_);  // also from the host
  expect_empty(allocator);
}

TEST_P(Conformance, AHostThatIsTooSmallRefuses) {
  PoolConfig pool = kPool;
  pool.host_slots = Tokens(16);
  CheckedAllocator allocator = make(pool);
  const auto group = ids(0, 1);
  ASSERT_EQ(
      allocator.admit({.group = group, .prompt = Tokens(40), .expected_total = Tokens(50)}, plan_)
          .status,
      AllocStatus::ok);
  EXPECT_EQ(allocator.swap_out(group, plan_), AllocStatus::no_memory);
  EXPECT_TRUE(plan_.empty());
  allocator.check_invariants(CheckLevel::full);
}

TEST_P(Conformance, APrefixIsReadBackByItsBorrowers) {
  for (const std::int64_t prefix_tokens : {1, 15, 16, 40, 48, 160, 208}) {
    CheckedAllocator allocator = make();
    const auto lender = ids(0, 1);
    ASSERT_EQ(
        allocator
            .admit({.group = lender, .prompt = Tokens(208), .expected_total = Tokens(208)}, plan_)
            .status,
        AllocStatus::ok);
    const auto group = ids(1, 2);
    plan_.clear();
    const AllocResult result = allocator.admit({.group = group,
                                                .prompt = Tokens(210),
                                                .expected_total = Tokens(240),
                                                .share_prompt = true,
                                                .prefix = SeqId(0),
                                                .prefix_tokens = Tokens(prefix_tokens)},
                                               plan_);
    ASSERT_EQ(result.status, AllocStatus::ok);
    if (prefix_tokens % 16 == 0) {
      EXPECT_EQ(plan_.moved().copied, Tokens(0)) << "whole blocks may not have been computed yet";
    }
    ASSERT_EQ(allocator.grow(group, Tokens(230), plan_), AllocStatus::ok);
    allocator.check_invariants(CheckLevel::full);
    allocator.release(SeqId(0), plan_);  // the borrowers keep what they share
    ASSERT_EQ(allocator.grow(group, Tokens(240), plan_), AllocStatus::ok);
    allocator.check_invariants(CheckLevel::full);
    for (const SeqId id : group) allocator.release(id, plan_);
    expect_empty(allocator);
  }
}

TEST_P(Conformance, RandomOperationsBreakNothing) {
  for (const std::int64_t block : {1, 5, 16}) {
    PoolConfig pool = kPool;
    pool.block_tokens = Tokens(block);
    CheckedAllocator allocator = make(pool);
    RandomOps ops(allocator, Tokens(200), static_cast<std::uint64_t>(block));
    try {
      for (int i = 0; i < 3000; ++i) {
        ops.step();
        allocator.check_invariants(i % 5 == 0 ? CheckLevel::full : CheckLevel::cheap);
      }
    } catch (const InvariantError& error) {
      FAIL() << "blocks of " << block << ": " << error.what();
    }
    EXPECT_GT(ops.calls(AllocStatus::ok), 500);
    EXPECT_GT(ops.calls(AllocStatus::no_memory), 50);
    ops.drain();
    expect_empty(allocator);
  }
}

// Two of a kind make the same random calls; one of them fails two extra calls after each. Whatever
// the failures left behind (the order of a free list, a reference given up) would make their plans
// drift apart.
TEST_P(Conformance, AFailedCallLeavesNoTrace) {
  const auto quiet = make_allocator(GetParam(), kPool);
  const auto noisy = make_allocator(GetParam(), kPool);
  RandomOps quiet_ops(*quiet, Tokens(300), 7);
  RandomOps noisy_ops(*noisy, Tokens(300), 7);
  const auto too_much = ids(5000, 3);
  for (int i = 0; i < 3000; ++i) {
    SCOPED_TRACE(testing::Message() << "after random operation " << i);
    quiet_ops.step();
    noisy_ops.step();
    const std::vector<MemOp>& expected = quiet_ops.plan().ops();
    const std::vector<MemOp>& found = noisy_ops.plan().ops();
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t op = 0; op < expected.size(); ++op) {
      ASSERT_EQ(found[op].src, expected[op].src) << "of operation " << op << " of the plan";
      ASSERT_EQ(found[op].dst, expected[op].dst) << "of operation " << op << " of the plan";
    }
    // Just more than is left, so that some members are placed before the group fails.
    const Tokens free = noisy->stats(Tier::device).free();
    const Tokens each = min(Tokens(340), Tokens(free.count() / 3 + 17));
    MemPlan plan;
    const AllocStatus status =
        noisy->admit({.group = too_much, .prompt = each, .expected_total = each}, plan).status;
    ASSERT_NE(status, AllocStatus::ok) << "the group was meant not to fit";
    if (const auto group = noisy_ops.resident(); !group.empty()) {
      const Tokens more_than_the_pool = kPool.device_slots + Tokens(1);
      ASSERT_NE(noisy->grow(group, more_than_the_pool, plan), AllocStatus::ok);
    }
    ASSERT_TRUE(plan.empty());
  }
}

TEST_P(Conformance, TheSameCallsGiveTheSameAnswers) {
  const auto a = make_allocator(GetParam(), kPool);
  const auto b = make_allocator(GetParam(), kPool);
  const auto group = ids(0, 3);
  MemPlan other;
  for (const auto& [allocator, plan] : {std::pair{a.get(), &plan_}, std::pair{b.get(), &other}}) {
    ASSERT_EQ(allocator
                  ->admit({.group = group,
                           .prompt = Tokens(30),
                           .expected_total = Tokens(90),
                           .share_prompt = true},
                          *plan)
                  .status,
              AllocStatus::ok);
    ASSERT_EQ(allocator->grow(group, Tokens(90), *plan), AllocStatus::ok);
  }
  for (const SeqId id : group) {
    EXPECT_EQ(slots(*a, id, Tokens(90)), slots(*b, id, Tokens(90)));
  }
  EXPECT_EQ(plan_.ops().size(), other.ops().size());
}

std::vector<std::string_view> names() {
  std::vector<std::string_view> names;
  for (const AllocatorEntry& entry : allocator_registry()) names.push_back(entry.name);
  return names;
}

std::string test_name(const testing::TestParamInfo<std::string_view>& allocator) {
  std::string name(allocator.param);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Registry, Conformance, testing::ValuesIn(names()), test_name);

TEST(Registry, OffersTheNearestName) {
  try {
    (void)make_allocator("pagd", kPool);
    FAIL() << "an unknown name was accepted";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("'paged'"));
  }
}

}  // namespace
}  // namespace kvstow
