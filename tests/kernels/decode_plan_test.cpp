// Dealing decode work to blocks: every chunk exactly once, runs of equal length, and every
// hand-over has its counterpart. The planner's arithmetic on the host; the GPU's kernel calls the
// same code.
#include "kernels/cuda/decode_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "core/rng.h"

namespace kvstow::kernels::cuda {
namespace {

std::vector<PlanEntry> plan_on_host(const std::vector<std::int32_t>& length, int tiles,
                                    int blocks) {
  const int rows = static_cast<int>(length.size());
  std::vector<std::int64_t> before{0};
  for (const std::int32_t l : length) before.push_back(before.back() + chunks_of(l));
  const bool ragged = std::any_of(length.begin(), length.end(), [&](std::int32_t l) {
    return chunks_of(l) != chunks_of(length[0]);
  });
  const int rounds = plan_rounds(std::int64_t{rows} * tiles, blocks, ragged);
  std::vector<std::int64_t> runs;
  for (int c = 0; c < blocks; ++c) {
    runs.push_back(chunks_in_rounds(before.data(), tiles, blocks, rounds, c));
  }
  std::int64_t at = line_begin(before.data(), rows, tiles, blocks, rounds);
  const std::int64_t left = before.back() * tiles - at;
  const auto filled = [&](std::int64_t level) {
    std::int64_t sum = 0;
    for (const std::int64_t r : runs) sum += std::max<std::int64_t>(0, level - r);
    return sum;
  };
  const std::int64_t level = fill_level(left, *std::max_element(runs.begin(), runs.end()), filled);
  run_lengths(runs.data(), blocks, level, filled(level) - left);
  std::vector<PlanEntry> plan;
  for (int c = 0; c <= blocks; ++c) {
    plan.push_back(plan_entry(before.data(), rows, tiles, at));
    if (c < blocks) at += runs[static_cast<std::size_t>(c)];
  }
  plan.push_back({rounds, 0, 0, 0});
  for (int c = 0; c < blocks; ++c) plan[c].began = block_that_began(plan.data(), c);
  return plan;
}

std::vector<Piece> pieces_of(const std::vector<PlanEntry>& plan,
                             const std::vector<std::int32_t>& length, int tiles, int block) {
  PieceWalk walk(plan.data(), static_cast<int>(plan.size()) - 2, block, tiles);
  std::vector<Piece> pieces;
  Piece piece;
  while (!walk.done()) {
    EXPECT_TRUE(walk.next(piece, [&](std::int32_t r) { return chunks_of(length[r]); }));
    pieces.push_back(piece);
  }
  EXPECT_FALSE(walk.next(piece, [&](std::int32_t r) { return chunks_of(length[r]); }));
  return pieces;
}

TEST(DecodePlan, EveryChunkExactlyOnceForRandomBatches) {
  RandomStream random(3, "plans");
  for (int trial = 0; trial < 400; ++trial) {
    std::vector<std::int32_t> length;
    const int rows = 1 + static_cast<int>(random.below(random.below(3) ? 10 : 100));
    const bool uniform = random.below(3) == 0;
    const auto longest = 1 + random.below(random.below(2) ? 600 : 9000);
    for (int r = 0; r < rows; ++r) {
      length.push_back(uniform && r > 0 ? length[0]
                                        : static_cast<std::int32_t>(random.below(longest)));
    }
    const int tiles = 1 + static_cast<int>(random.below(40));
    const int blocks = 1 + static_cast<int>(random.below(200));
    const std::vector<PlanEntry> plan = plan_on_host(length, tiles, blocks);

    std::vector<std::size_t> first_of{0};  // row -> its first chunk in `seen`
    for (const std::int32_t l : length) {
      first_of.push_back(first_of.back() + static_cast<std::size_t>(chunks_of(l) * tiles));
    }
    std::vector<char> seen(first_of.back(), 0);
    std::map<int, std::pair<int, int>> begun;  // block -> item whose state it hands over
    for (int b = 0; b < blocks; ++b) {
      const auto pieces = pieces_of(plan, length, tiles, b);
      for (std::size_t i = 0; i < pieces.size(); ++i) {
        const Piece& p = pieces[i];
        ASSERT_LT(p.first, p.last);
        ASSERT_EQ(p.first == 0, p.kind == PieceKind::whole || p.kind == PieceKind::begins);
        ASSERT_EQ(p.last == chunks_of(length[p.row]),
                  p.kind == PieceKind::whole || p.kind == PieceKind::ends);
        ASSERT_TRUE(p.kind != PieceKind::ends || i + 1 == pieces.size());
        ASSERT_TRUE(p.kind != PieceKind::inside || i + 1 == pieces.size());
        for (int c = p.first; c < p.last; ++c) {
          const std::size_t at = first_of[p.row] + p.tile * chunks_of(length[p.row]) + c;
          ASSERT_EQ(seen[at]++, 0) << "chunk twice";
        }
        if (p.kind == PieceKind::begins) begun[b] = {p.row, p.tile};
        if (p.kind == PieceKind::ends || p.kind == PieceKind::inside) {
          const auto from = begun.find(plan[b].began);
          ASSERT_NE(from, begun.end()) << "nobody began what block " << b << " goes on with";
          ASSERT_EQ(from->second, std::make_pair(p.row, p.tile));
        }
      }
    }
    ASSERT_EQ(std::count(seen.begin(), seen.end(), 1), static_cast<std::ptrdiff_t>(seen.size()));
  }
}

TEST(DecodePlan, UniformBatchesAreDealtEvenly) {
  for (const int rows : {1, 3, 8, 32, 64, 256}) {
    const std::vector<std::int32_t> length(static_cast<std::size_t>(rows), 2048);
    const auto plan = plan_on_host(length, 8, 132);
    std::vector<int> chunks;
    for (int b = 0; b < 132; ++b) {
      int sum = 0;
      for (const Piece& p : pieces_of(plan, length, 8, b)) sum += p.last - p.first;
      chunks.push_back(sum);
    }
    const auto [low, high] = std::minmax_element(chunks.begin(), chunks.end());
    EXPECT_LE(*high - *low, 1) << rows;
  }
}

TEST(DecodePlan, RaggedBatchesAreDealtEvenly) {
  RandomStream random(4, "ragged");
  std::vector<std::int32_t> length;
  for (int r = 0; r < 256; ++r) length.push_back(64 + static_cast<int>(random.below(1921)));
  for (const int tiles : {1, 8, 40}) {
    const auto plan = plan_on_host(length, tiles, 132);
    int most = 0;
    int sum = 0;
    for (int b = 0; b < 132; ++b) {
      int mine = 0;
      for (const Piece& p : pieces_of(plan, length, tiles, b)) mine += p.last - p.first;
      most = std::max(most, mine);
      sum += mine;
    }
    EXPECT_LE(most, sum / 132 + 1 + sum / 132 / 20) << tiles;
  }
}

TEST(DecodePlan, WorkspaceHoldsEveryPartialResult) {
  const KvLayout layout{1, 8, 128, 1024, DType::f16};
  const DecodeWorkspace w = decode_workspace(4, 2048, 32, layout, 132);
  EXPECT_EQ(w.result_floats, 4 * 130);
  EXPECT_EQ(w.partials, 16);  // chunks of the longest item
  EXPECT_GE(w.bytes - w.partials_at, 132 * 16 * 4 * 130 * 4);
}

TEST(DecodePlan, TilesCoverAnyGroup) {
  for (int group = 1; group <= 40; ++group) {
    const DecodeTiling t = decode_tiling(3 * group, 3);
    EXPECT_EQ(t.tiles, 3 * t.tiles_per_kv_head);
    EXPECT_GE(t.tiles_per_kv_head * (group <= 8 ? 8 : 16), group);
    EXPECT_LE(t.heads_per_tile, group <= 8 ? 8 : 16);
  }
}

}  // namespace
}  // namespace kvstow::kernels::cuda
