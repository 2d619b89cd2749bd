// Placement drawn by hand: buddy splits and merges, first fit and best fit.
#include <gtest/gtest.h>

#include "baselines/buddy_arena.h"
#include "baselines/contiguous_arena.h"
#include "core/rng.h"

namespace kvstow {
namespace {

std::vector<std::int64_t> free_chunks(const BuddyArena& arena) {  // of 1, 2, 4, ... 128 blocks
  std::vector<std::int64_t> chunks;
  for (int order = 0; order <= 7; ++order) chunks.push_back(arena.free_chunks(order));
  return chunks;
}

using Chunks = std::vector<std::int64_t>;

// OPT-13B's pool (paper section 6.1, Table 1): 983 blocks, largest chunk 2048 / 16 = 128.
TEST(BuddyArena, CarvesTheOpt13bPoolGreedily) {
  const BuddyArena arena(983, 128);
  EXPECT_EQ(free_chunks(arena), (Chunks{1, 1, 1, 0, 1, 0, 1, 7}));
  EXPECT_EQ(arena.granted(1), 1);
  EXPECT_EQ(arena.granted(64), 64);
  EXPECT_EQ(arena.granted(65), 128);
  EXPECT_EQ(arena.granted(129), 0);
  arena.check();
}

// What ExtentAllocator::fits_empty_pool rests on.
TEST(BuddyArena, AnEmptyArenaHoldsAsManyEqualChunksAsAddUp) {
  for (std::int64_t chunk = 1; chunk <= 128; chunk *= 2) {
    BuddyArena arena(983, 128);
    std::int64_t chunks = 0;
    while (arena.take(chunk)) ++chunks;
    EXPECT_EQ(chunks, 983 / chunk);
  }
}

TEST(BuddyArena, TakesTheSmallestChunkThatFits) {
  BuddyArena arena(983, 128);
  EXPECT_EQ(arena.take(10), (BlockRun{960, 16}));  // the carved 16, not a split 64 or 128
  EXPECT_EQ(arena.take(33), (BlockRun{896, 64}));
  EXPECT_EQ(arena.take(3), (BlockRun{976, 4}));
  EXPECT_EQ(arena.take(1), (BlockRun{982, 1}));
  EXPECT_EQ(free_chunks(arena), (Chunks{0, 1, 0, 0, 0, 0, 0, 7}));
  EXPECT_EQ(arena.take(1), (BlockRun{980, 1}));  // splits the carved 2
  EXPECT_EQ(free_chunks(arena), (Chunks{1, 0, 0, 0, 0, 0, 0, 7}));
  arena.check();
}

TEST(BuddyArena, SplitsALargeChunkAndMergesItAgain) {
  BuddyArena arena(256, 128);
  const BlockRun run = arena.take(9);
  EXPECT_EQ(run, (BlockRun{0, 16}));
  EXPECT_EQ(free_chunks(arena), (Chunks{0, 0, 0, 0, 1, 1, 1, 1}));
  const BlockRun second = arena.take(16);
  EXPECT_EQ(second, (BlockRun{16, 16}));
  arena.give(run);
  EXPECT_EQ(free_chunks(arena), (Chunks{0, 0, 0, 0, 1, 1, 1, 1}));  // its buddy is taken
  arena.give(second);
  EXPECT_EQ(free_chunks(arena), (Chunks{0, 0, 0, 0, 0, 0, 0, 2}));  // never above the largest
  arena.check();
}

TEST(BuddyArena, ACarvedRemainderNeverMergesUpwards) {
  BuddyArena arena(983, 128);
  std::vector<BlockRun> runs;
  while (const BlockRun run = arena.take(1)) runs.push_back(run);
  EXPECT_EQ(runs.size(), 983u);
  EXPECT_EQ(arena.free(), 0);
  for (const BlockRun run : runs) {
    arena.give(run);
  }
  EXPECT_EQ(free_chunks(arena), (Chunks{1, 1, 1, 0, 1, 0, 1, 7}));
  arena.check();
}

TEST(BuddyArena, ExtendsIntoAFreeUpperHalfOnly) {
  BuddyArena arena(128, 128);
  const BlockRun low = arena.take(16);   // [0, 16)
  const BlockRun high = arena.take(16);  // [16, 32)
  EXPECT_FALSE(arena.can_extend(low, 17));
  EXPECT_FALSE(arena.can_extend(high, 17));
  arena.give(high);
  EXPECT_TRUE(arena.can_extend(low, 100));
  EXPECT_EQ(arena.extend(low, 33), (BlockRun{0, 64}));
  EXPECT_EQ(free_chunks(arena), (Chunks{0, 0, 0, 0, 0, 0, 1, 0}));
  EXPECT_EQ(arena.free(), 64);
  arena.check();
}

// Holes of 8, 3 and 5 blocks, in this order, behind held runs; the rest of the pool is taken.
std::unique_ptr<Arena> with_holes(Fit fit) {
  auto arena = make_contiguous_arena(fit, 32);
  std::vector<BlockRun> runs;
  for (const std::int64_t length : {8, 2, 3, 2, 5, 12}) runs.push_back(arena->take(length));
  EXPECT_EQ(arena->free(), 0);
  for (const std::size_t hole : {0u, 2u, 4u}) arena->give(runs[hole]);
  arena->check();
  return arena;
}

TEST(ContiguousArena, FirstFitTakesTheLowestAddress) {
  const auto arena = with_holes(Fit::first);
  EXPECT_EQ(arena->take(3), (BlockRun{0, 3}));
  EXPECT_EQ(arena->take(4), (BlockRun{3, 4}));
  EXPECT_EQ(arena->take(4), (BlockRun{15, 4}));
  EXPECT_EQ(arena->take(3), (BlockRun{10, 3}));
  EXPECT_EQ(arena->free(), 2);
  EXPECT_FALSE(arena->take(2));  // two blocks, but apart
  arena->check();
}

TEST(ContiguousArena, BestFitTakesTheSmallestHole) {
  const auto arena = with_holes(Fit::best);
  EXPECT_EQ(arena->take(3), (BlockRun{10, 3}));
  EXPECT_EQ(arena->take(4), (BlockRun{15, 4}));
  EXPECT_EQ(arena->take(4), (BlockRun{0, 4}));
  EXPECT_EQ(arena->take(4), (BlockRun{4, 4}));
  EXPECT_EQ(arena->free(), 1);
  arena->check();
}

TEST(ContiguousArena, MergesWithBothNeighbours) {
  for (const Fit fit : {Fit::first, Fit::best}) {
    auto arena = make_contiguous_arena(fit, 30);
    const BlockRun a = arena->take(10);
    const BlockRun b = arena->take(10);
    const BlockRun c = arena->take(10);
    arena->give(a);
    arena->give(c);
    EXPECT_FALSE(arena->take(11));
    arena->give(b);
    EXPECT_EQ(arena->take(30), (BlockRun{0, 30}));
    arena->check();
  }
}

TEST(ContiguousArena, ExtendsIntoTheRunBehind) {
  for (const Fit fit : {Fit::first, Fit::best}) {
    auto arena = make_contiguous_arena(fit, 30);
    const BlockRun a = arena->take(10);
    const BlockRun b = arena->take(4);
    EXPECT_FALSE(arena->can_extend(a, 11));
    EXPECT_TRUE(arena->can_extend(b, 20));
    EXPECT_FALSE(arena->can_extend(b, 21));
    EXPECT_EQ(arena->extend(b, 6), (BlockRun{10, 6}));
    EXPECT_EQ(arena->free(), 14);
    arena->check();
  }
}

// Against the definition: a plain scan over a map of the blocks, at sizes that cross the words and
// levels of the index.
TEST(ContiguousArena, FindsWhatAScanFinds) {
  constexpr std::int64_t kBlocks = 5000;
  for (const Fit fit : {Fit::first, Fit::best}) {
    RandomStream random(1, "arena scan");
    auto arena = make_contiguous_arena(fit, kBlocks);
    std::vector<bool> taken(kBlocks, false);
    std::vector<BlockRun> runs;
    const auto mark = [&](BlockRun run, bool value) {
      std::fill_n(taken.begin() + run.first, run.length, value);
    };
    for (int i = 0; i < 1200; ++i) {
      if (!runs.empty() && random.below(2) == 0) {
        const std::size_t victim = random.below(static_cast<std::uint32_t>(runs.size()));
        arena->give(runs[victim]);
        mark(runs[victim], false);
        runs[victim] = runs.back();
        runs.pop_back();
        continue;
      }
      const std::int64_t wanted = 1 + random.below(random.below(4) == 0 ? 900 : 90);
      std::int64_t lowest = -1;
      std::int64_t smallest = kBlocks + 1;
      for (std::int64_t b = 0, length = 0; b <= kBlocks; ++b) {
        if (b < kBlocks && !taken[static_cast<std::size_t>(b)]) {
          ++length;
          continue;
        }
        if (length >= wanted && lowest < 0) lowest = b - length;
        if (length >= wanted && length < smallest) smallest = length;
        length = 0;
      }
      const BlockRun run = arena->take(wanted);
      ASSERT_EQ(static_cast<bool>(run), lowest >= 0);
      if (!run) continue;
      std::int64_t hole = 0;  // length of the free run that it was taken from
      while (run.first + hole < kBlocks && !taken[static_cast<std::size_t>(run.first + hole)]) {
        ++hole;
      }
      if (fit == Fit::first)
        EXPECT_EQ(run.first, lowest);
      else
        EXPECT_EQ(hole, smallest);
      mark(run, true);
      runs.push_back(run);
    }
    arena->check();
  }
}

}  // namespace
}  // namespace kvstow
