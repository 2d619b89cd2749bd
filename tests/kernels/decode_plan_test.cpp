// Dealing decode work to blocks: every chunk in exactly one leaf, the cut a function of the row's
// length alone, and nobody waits for a later entry. The planner's arithmetic on the host; the GPU's
// kernel calls the same code.
#include "kernels/cuda/decode_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/rng.h"

namespace kvstow::kernels::cuda {
namespace {

std::vector<Unit> plan_on_host(const std::vector<std::int32_t>& length, bool whole) {
  std::vector<Unit> list;
  for (std::size_t row = 0; row < length.size(); ++row) {
    const int leaves = leaves_of(length[row]);
    for (int i = 0; i < (whole ? 1 : leaves); ++i) {
      list.push_back(unit_of(static_cast<std::int32_t>(row), length[row], i, whole ? leaves : 1));
    }
  }
  return list;
}

TEST(DecodePlan, LeavesOfARowAreWholeChunksSideBySide) {
  for (std::int32_t length = 0; length < 140'000; length += length < 20'000 ? 1 : 97) {
    const int leaves = leaves_of(length);
    ASSERT_GE(leaves, 1);
    ASSERT_LE(leaves, kMaxLeaves);
    std::int32_t at = 0;
    for (int i = 0; i < leaves; ++i) {
      const Unit leaf = unit_of(7, length, i, 1);
      ASSERT_EQ(leaf.row, 7);
      ASSERT_EQ(leaf.leaves_before(), i);
      ASSERT_EQ(leaf.ends_row(), i + 1 == leaves);
      ASSERT_EQ(leaf.first, at) << length;
      ASSERT_EQ(leaf.first % kAttentionChunk, 0);
      ASSERT_TRUE(leaf.end > leaf.first || length == 0) << length;
      ASSERT_TRUE(leaf.end - leaf.first == leaf.leaf_tokens() || leaf.ends_row()) << length;
      at = leaf.end;
    }
    ASSERT_EQ(at, length);
    const Unit row = unit_of(7, length, 0, leaves);
    ASSERT_EQ(row.first, 0);
    ASSERT_EQ(row.end, length);
    ASSERT_TRUE(row.ends_row());
    ASSERT_EQ(row.leaf_tokens(), unit_of(7, length, 0, 1).leaf_tokens());
  }
}

// Block b of n computes entries b, b + n, ... in order, and the block with a row's last leaf waits
// for the others: run every block as far as it can go, in turn, until all are done.
TEST(DecodePlan, BlocksInOrderNeverWaitInACircle) {
  RandomStream random(3, "plans");
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<std::int32_t> length;
    const int rows = 1 + static_cast<int>(random.below(random.below(3) ? 10 : 100));
    const auto longest = 1 + random.below(random.below(2) ? 600 : 9000);
    for (int r = 0; r < rows; ++r) {
      length.push_back(static_cast<std::int32_t>(random.below(longest)));
    }
    const int tiles = 1 + static_cast<int>(random.below(40));
    const int blocks = 1 + static_cast<int>(random.below(300));
    const std::vector<Unit> list = plan_on_host(length, random.below(4) == 0);
    const int entries = static_cast<int>(list.size()) * tiles;
    std::vector<bool> done(static_cast<std::size_t>(entries));
    std::vector<int> at;
    for (int b = 0; b < blocks; ++b) at.push_back(b);
    for (bool moved = true; moved;) {
      moved = false;
      for (int& e : at) {
        for (; e < entries; e += blocks, moved = true) {
          const Unit& unit = list[static_cast<std::size_t>(e / tiles)];
          bool there = true;
          for (int i = 1; unit.ends_row() && i <= unit.leaves_before(); ++i) {
            there = there && done[static_cast<std::size_t>(e - i * tiles)];
          }
          if (!there) break;
          done[static_cast<std::size_t>(e)] = true;
        }
      }
    }
    ASSERT_TRUE(std::all_of(done.begin(), done.end(), [](bool d) { return d; }));
  }
}

TEST(DecodePlan, WholeRowsWhereTheyKeepAllBlocksBusy) {
  const auto whole = [](const std::vector<std::int32_t>& length, int tiles, int blocks) {
    std::int64_t all = 0;
    std::int64_t fullest = 0;
    for (int b = 0; b < blocks; ++b) {
      const std::int64_t tokens =
          tokens_of_block(length.data(), static_cast<int>(length.size()), tiles, b, blocks);
      all += tokens;
      fullest = std::max(fullest, tokens);
    }
    EXPECT_EQ(all, std::accumulate(length.begin(), length.end(), std::int64_t{0}) * tiles);
    return deal_whole_rows(fullest, all, blocks);
  };
  EXPECT_TRUE(whole(std::vector<std::int32_t>(256, 1000), 8, 264));  // 7.8 rounds
  EXPECT_TRUE(whole(std::vector<std::int32_t>(32, 1000), 8, 264));   // nearly one
  EXPECT_FALSE(whole(std::vector<std::int32_t>(8, 1000), 40, 264));  // 1.2
  EXPECT_FALSE(whole({1000}, 40, 264));
  EXPECT_FALSE(whole({8000, 10, 10, 10}, 1, 4));
}

TEST(DecodePlan, TheWorkspaceHoldsEveryBatch) {
  for (const int max_length : {0, 1, 128, 700, 1024, 1100, 2048, 5000, 8192, 131072}) {
    const KvLayout layout{1, 4, 128, 1 << 20, DType::f16};
    const DecodeWorkspace w = decode_workspace(3, max_length, 48, layout, 132);
    const DecodeTiling tiling = decode_tiling(48, 4);
    EXPECT_EQ(tiling.tiles, 8);  // twelve heads a group: two tiles
    std::int64_t most = 0;
    for (int length = 0; length <= max_length; ++length) {
      most = std::max<std::int64_t>(most, leaves_of(length));
    }
    EXPECT_GE(w.max_units, 3 * most) << max_length;
    EXPECT_LE(w.units_at + w.max_units * static_cast<std::int64_t>(sizeof(Unit)), w.parts_at);
    EXPECT_LE(w.parts_at + w.max_units * tiling.tiles * w.part_floats * 4, w.bytes);
  }
}

TEST(DecodePlan, DividerDivides) {
  RandomStream random(5, "dividends");
  for (std::uint32_t divisor = 1; divisor < 70'000; divisor += divisor < 600 ? 1 : 137) {
    const Divider by = divide_by(divisor);
    for (const std::uint32_t n : {0u, 1u, divisor - 1, divisor, divisor + 1, 0x7fffffffu,
                                  0x7fffffffu / divisor * divisor, random.below(0x80000000u)}) {
      ASSERT_EQ(by.quotient(n), n / divisor) << n << " / " << divisor;
    }
    if (divisor > 1) {
      const std::uint32_t largest = 0x7fffffffu / divisor * divisor;
      ASSERT_EQ(by.quotient(largest - 1), (largest - 1) / divisor) << divisor;
    }
  }
}

}  // namespace
}  // namespace kvstow::kernels::cuda
