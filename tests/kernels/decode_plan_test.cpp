// Dealing decode work to blocks: every leaf of every item to exactly one block, the cut a function
// of the row's length alone, and room for what the blocks of a team hand each other. The planner's
// arithmetic on the host; the GPU's kernels call the same code.
#include "kernels/cuda/decode_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <vector>

#include "core/rng.h"

namespace kvstow::kernels::cuda {
namespace {

TEST(DecodePlan, LeavesOfARowAreWholeChunksSideBySide) {
  for (std::int32_t length = 0; length < 140'000; length += length < 20'000 ? 1 : 97) {
    const int leaves = leaves_of(length);
    ASSERT_GE(leaves, 1);
    ASSERT_LE(leaves, kMaxLeaves);
    ASSERT_EQ(leaf_begin(length, 0), 0);
    ASSERT_EQ(leaf_begin(length, leaves), length);
    std::int32_t shortest = length;
    std::int32_t longest = 0;
    for (int i = 0; i < leaves; ++i) {
      const std::int32_t begin = leaf_begin(length, i);
      const std::int32_t end = leaf_begin(length, i + 1);
      ASSERT_EQ(begin % kAttentionChunk, 0) << length;
      ASSERT_TRUE(end > begin || length == 0) << length;
      if (i + 1 < leaves) shortest = std::min(shortest, end - begin);
      longest = std::max(longest, end - begin);
    }
    if (leaves > 1) {
      ASSERT_LE(longest, shortest + kAttentionChunk) << length;  // apart from the last one
    }
  }
}

constexpr int kTeams[] = {1, 2, 3, 4, 8};

TEST(DecodePlan, TheBlocksOfATeamShareARowsLeaves) {
  for (std::int32_t length = 0; length < 3000; ++length) {
    for (const int team : kTeams) {
      int leaves = 0;
      for (int rank = 0; rank < team; ++rank) {
        const Part part = part_of(7, 5, length, 1000, rank, team, rank % 2 == 1);
        ASSERT_EQ(part.rank(), rank);
        ASSERT_EQ(part.tile(), 1000);
        ASSERT_EQ(part.team(), team);
        ASSERT_EQ(part.more(), rank % 2 == 1);
        ASSERT_EQ(part.first(), leaves);
        ASSERT_EQ(part.prefix(), first_leaf(length, 1, team));
        leaves = part.end();
      }
      ASSERT_EQ(leaves, leaves_of(length));
    }
  }
}

TEST(DecodePlan, StatesOfATeamHaveRoom) {
  for (int chunks = 1; chunks <= 40; ++chunks) {
    for (int heads = 1; heads <= kTileHeads; ++heads) {
      for (const int team : kTeams) {
        const Part part = part_of(0, 0, chunks * kAttentionChunk, 0, 0, team, false);
        EXPECT_LE(state_slots(part) * own_heads(heads, team), kMaxStates);
      }
    }
  }
}

TEST(DecodePlan, EveryItemOnce) {
  RandomStream random(3, "deals");
  for (int trial = 0; trial < 300; ++trial) {
    const int team = kTeams[random.below(5)];
    const int tiles = 1 + static_cast<int>(random.below(40));
    const int rows = 1 + static_cast<int>(random.below(60));
    const int teams = 1 + static_cast<int>(random.below(40));
    const Deal deal{rows * tiles, teams * team, team, random.below(2) == 0};
    ASSERT_EQ(deal.teams(), teams);
    std::vector<int> dealt(static_cast<std::size_t>(deal.items));
    for (int n = 0; n < teams; ++n) {
      for (int round = 0; round < deal.rounds(); ++round) {
        const int item = deal.item(round, n, teams);
        if (item >= 0) ++dealt[static_cast<std::size_t>(item)];
        if (item < 0) {
          ASSERT_EQ(round, deal.rounds() - 1);
        }
      }
      ASSERT_EQ(deal.item(deal.rounds(), n, teams), -1);
    }
    ASSERT_TRUE(std::all_of(dealt.begin(), dealt.end(), [](int times) { return times == 1; }));
  }
}

// The fullest team's tokens, in blocks, against the mean of all blocks.
double imbalance(std::vector<std::int32_t> length, int tiles, int blocks, int team) {
  std::sort(length.begin(), length.end(), std::greater<>());
  const Deal deal{static_cast<int>(length.size()) * tiles, blocks, team,
                  length.front() != length.back()};
  std::int64_t fullest = 0;
  for (int n = 0; n < deal.teams(); ++n) {
    std::int64_t tokens = 0;
    for (int round = 0; round < deal.rounds(); ++round) {
      const int item = deal.item(round, n, deal.teams());
      if (item >= 0) tokens += length[static_cast<std::size_t>(item / tiles)];
    }
    fullest = std::max(fullest, tokens);
  }
  const auto all = std::accumulate(length.begin(), length.end(), std::int64_t{0}) * tiles;
  return static_cast<double>(fullest * blocks / team) / static_cast<double>(all);
}

TEST(DecodePlan, DealsEvenly) {
  EXPECT_LE(imbalance(std::vector<std::int32_t>(256, 1000), 8, 264, 1), 1.04);
  EXPECT_LE(imbalance(std::vector<std::int32_t>(32, 1000), 8, 264, 1), 1.04);
  RandomStream random(9, "ragged");
  struct Case {
    int rows;
    int tiles;
    int team;
  };
  for (const Case c : {Case{256, 8, 1}, {256, 40, 1}, {32, 40, 1}, {256, 1, 2}, {32, 8, 2}}) {
    std::vector<std::int32_t> length;
    for (int r = 0; r < c.rows; ++r) {
      length.push_back(64 + static_cast<std::int32_t>(random.below(1921)));
    }
    EXPECT_LE(imbalance(length, c.tiles, 264, c.team), 1.15)
        << c.rows << " rows, " << c.tiles << " tiles, teams of " << c.team;
  }
}

// With clusters and without, on the whole device and a few multiprocessors of it: every launch has
// blocks, whole clusters of them, no more than run at once, and the workspace holds its list with
// the largest teams.
TEST(DecodePlan, EveryGridHasBlocksAndRoomForItsPlan) {
  std::vector<DecodeRoom> rooms;
  for (const int longest : {100, 512, 2048, 8192}) {
    rooms.push_back({{0, 264, 264, 237, 0, 0, 0, 0, 240}, longest});  // one H200, head_dim <= 128
    rooms.push_back({{0, 132, 132, 114, 0, 0, 0, 0, 104}, longest});
    rooms.push_back({{0, 264}, longest});  // no clusters
    for (int blocks = 1; blocks < 40; ++blocks) {
      rooms.push_back(
          {{0, blocks, blocks / 2 * 2, blocks / 3 * 3, 0, 0, 0, 0, blocks / 8 * 8}, longest});
      rooms.push_back({{0, blocks}, longest});
    }
  }
  for (const DecodeRoom& room : rooms) {
    for (const int tiles : {1, 2, 8, 32, 40, 80}) {
      for (int rows = 1; rows <= 300; ++rows) {
        const DecodeGrid grid = decode_grid(room, rows * tiles);
        ASSERT_GT(grid.blocks, 0) << rows << " rows, " << tiles << " tiles, " << room.blocks[1];
        ASSERT_EQ(grid.blocks % grid.cluster, 0);
        ASSERT_LE(grid.blocks, room.blocks[grid.cluster]);
        for (const int team : kTeams) {
          if (grid.cluster % team != 0) continue;
          const Deal deal{rows * tiles, grid.blocks, team, false};
          const std::int64_t entries = std::int64_t{deal.rounds()} * grid.blocks;
          ASSERT_LE(entries + (deal.rounds() == 1 ? grid.blocks : 0),
                    plan_entries(room, std::int64_t{rows} * tiles));
        }
      }
    }
  }
}

// On one H200: the largest team that all items can have at once, and no multiprocessor without a
// block where a launch has few of them.
TEST(DecodePlan, GridsOfOneDevice) {
  const auto grid = [](int longest, int items) {
    return decode_grid({{0, 264, 264, 237, 0, 0, 0, 0, 240}, longest}, items);
  };
  const auto expect = [](const DecodeGrid& g, int cluster, int blocks) {
    EXPECT_EQ(g.cluster, cluster);
    EXPECT_EQ(g.blocks, blocks);
  };
  expect(grid(2048, 8), 8, 128);  // 64 would do
  expect(grid(2048, 40), 8, 240);
  expect(grid(2048, 64), 3, 192);
  expect(grid(2048, 100), 2, 200);
  expect(grid(1024, 64), 2, 132);  // four leaves a row
  expect(grid(8192, 8), 8, 64);
  expect(grid(8192, 32), 3, 132);
  expect(grid(8192, 64), 2, 132);
  expect(grid(8192, 2000), 2, 264);
  expect(grid(1024, 32), 8, 240);
  expect(grid(2048, 32), 8, 128);                   // teams of four
  expect(decode_grid({{0, 264}, 128}, 40), 1, 40);  // rows of one leaf are planned without clusters
}

// Nothing in advance where blocks have one tile of a row, block ids only for a few long rows.
TEST(DecodePlan, WhatBodiesDoInAdvance) {
  const auto ahead = [](int longest, int items, bool tiles_have_ids) {
    const DecodeRoom room{{0, 264, 264, 237, 0, 0, 0, 0, 240}, longest};
    return decode_ahead(room, decode_grid(room, items), items, tiles_have_ids);
  };
  EXPECT_EQ(ahead(128, 2000, true), DecodeAhead::nothing);
  EXPECT_EQ(ahead(512, 8, true), DecodeAhead::nothing);
  EXPECT_EQ(ahead(512, 64, true), DecodeAhead::second_tile);
  EXPECT_EQ(ahead(1024, 1, true), DecodeAhead::second_tile);
  EXPECT_EQ(ahead(8192, 8, true), DecodeAhead::ids);
  EXPECT_EQ(ahead(8192, 8, false), DecodeAhead::second_tile);
  EXPECT_EQ(ahead(8192, 64, true), DecodeAhead::second_tile);
}

// A team takes less time where one block would have to do more than its share, and only there.
TEST(DecodePlan, CostsOfTeams) {
  EXPECT_LT(dealing_cost(2000, 2), dealing_cost(2000, 1));
  EXPECT_LT(dealing_cost(2000, 8), dealing_cost(2000, 4));
  EXPECT_LT(dealing_cost(128, 1), dealing_cost(128, 2));
  EXPECT_LT(dealing_cost(1024, 1), 2 * dealing_cost(1024, 2));
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
