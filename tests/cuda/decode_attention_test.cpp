// Decode attention on the GPU against double precision, over random shapes; and its bits, which
// must not depend on the batch, the map, the block size, the grid or the neighbours.
#include "kernels/cuda/decode_attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/rng.h"
#include "tests/cuda/decode_case.h"

namespace kvstow::kernels::cuda {
namespace {

using testing::DeviceArray;
using Case = testing::DecodeCase;
using Shape = testing::DecodeShape;

Shape random_shape(RandomStream& random, std::uint64_t seed) {
  constexpr int kDims[] = {64, 80, 96, 128, 256};
  constexpr int kGroups[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20};
  constexpr int kBlocks[] = {1, 2, 3, 8, 16, 17, 32, 100, 128, 256};
  Shape s{};
  s.seed = seed;
  s.head_dim = kDims[random.below(5)];
  s.group = kGroups[random.below(11)];
  s.kv_heads = 1 + static_cast<int>(random.below(8));
  s.block_tokens = kBlocks[random.below(10)];
  s.dtype = random.below(2) ? DType::f16 : DType::bf16;
  const int rows = 1 + static_cast<int>(random.below(random.below(4) ? 12 : 200));
  const int longest = rows < 16 ? (random.below(4) ? 700 : 5000) : 400;
  for (int r = 0; r < rows; ++r) {
    const int special[] = {0,   1,  s.block_tokens - 1, s.block_tokens, s.block_tokens + 1, 127,
                           128, 129};
    s.length.push_back(random.below(4) == 0 ? special[random.below(8)]
                                            : static_cast<std::int32_t>(random.below(
                                                  static_cast<std::uint32_t>(longest))));
    const bool again = r > 0 && random.below(8) == 0;  // two rows of one sequence
    s.map_row.push_back(again ? s.map_row.back() : (r == 0 ? 0 : s.map_row.back() + 1));
  }
  return s;
}

double tolerance(DType dtype) {
  return dtype == DType::f16 ? 7e-4 : 3e-3;
}

class DecodeAttention : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::have_device()) GTEST_SKIP() << "skipped: no CUDA device";
  }
};

int shapes() {
  return testing::from_environment("KVSTOW_TEST_SHAPES", 100);
}

TEST_F(DecodeAttention, AgreesWithDoublePrecisionOnRandomShapes) {
  RandomStream random(7, "decode shapes");
  double worst[2] = {};
  for (int i = 0; i < shapes(); ++i) {
    const Case c(random_shape(random, static_cast<std::uint64_t>(i)));
    const int rows = static_cast<int>(c.shape.length.size());
    const auto bits = c.run(c.table_map(), 0, rows, device_blocks());
    const double error = error_of(c, bits);
    ASSERT_LE(error, tolerance(c.shape.dtype)) << c.shape.text();
    double& w = worst[c.shape.dtype == DType::f16 ? 0 : 1];
    w = std::max(w, error);
    ASSERT_EQ(bits, c.run(c.affine_map(), 0, rows, device_blocks())) << c.shape.text();
    const int one = static_cast<int>(random.below(static_cast<std::uint32_t>(rows)));
    const auto alone = c.run(c.table_map(), one, 1, 1 + static_cast<int>(random.below(200)));
    ASSERT_TRUE(std::equal(alone.begin(), alone.end(), bits.begin() + one * c.width()))
        << "row " << one << ", " << c.shape.text();
  }
  RecordProperty("shapes", shapes());
  RecordProperty("worst_relative_l2_f16", std::to_string(worst[0]));
  RecordProperty("worst_relative_l2_bf16", std::to_string(worst[1]));
}

TEST_F(DecodeAttention, EveryBodyAtEveryPlaceInAChunk) {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    for (const int dim : {64, 80, 96, 128, 256}) {
      for (const int group : {1, 8, 12}) {
        for (const std::vector<std::int32_t>& lengths :
             {std::vector<std::int32_t>{16}, {128}, {33, 129, 256}, {700, 700}}) {
          Shape s{2, group, dim, 16, dtype, lengths, {}, 21};
          for (std::size_t r = 0; r < lengths.size(); ++r) s.map_row.push_back(static_cast<int>(r));
          const Case c(s);
          const int rows = static_cast<int>(lengths.size());
          for (const int blocks : {1, 3, 64}) {
            EXPECT_LE(error_of(c, c.run(c.table_map(), 0, rows, blocks)), tolerance(dtype))
                << blocks << " blocks, " << s.text();
          }
        }
      }
    }
  }
}

// The same tokens in blocks of two sizes, and in rows that one block has to itself (many of them)
// or a team shares (few).
TEST_F(DecodeAttention, SameBitsUnderTwoBlockSizesAndInTeams) {
  for (const int rows : {3, 160}) {
    Shape s{4, 2, 128, 16, DType::f16, {}, {}, 31};
    for (int r = 0; r < rows; ++r) {
      s.length.push_back(rows == 3 ? 1 + 900 * r : 700 + r % 3);
      s.map_row.push_back(r);
    }
    const Case sixteen(s);
    s.block_tokens = 37;
    const Case thirty_seven(s);
    const auto bits = sixteen.run(sixteen.table_map(), 0, rows, device_blocks());
    EXPECT_EQ(bits, thirty_seven.run(thirty_seven.table_map(), 0, rows, device_blocks()));
    const auto alone = thirty_seven.run(thirty_seven.table_map(), rows - 1, 1, device_blocks());
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), bits.end() - alone.size()));
  }
}

// Seven teams of two blocks with twenty items, whose tiles have eight heads and four in turn; a
// team of eight; one block for each item.
TEST_F(DecodeAttention, SameBitsInTeamsOfEverySize) {
  Shape s{2, 12, 128, 16, DType::f16, {}, {}, 41};
  for (int r = 0; r < 5; ++r) {
    s.length.push_back(3000 - r % 2);
    s.map_row.push_back(r);
  }
  const Case c(s);
  const auto bits = c.run(c.table_map(), 0, 5, 7);
  EXPECT_LE(error_of(c, bits), tolerance(DType::f16));
  EXPECT_EQ(bits, c.run(c.table_map(), 0, 5, device_blocks()));
  EXPECT_EQ(bits, c.run(c.affine_map(), 0, 5, 10));
  EXPECT_EQ(bits, c.run(c.table_map(), 0, 5, 1));
  for (const DecodeShare share : {DecodeShare::first, DecodeShare::second}) {
    EXPECT_EQ(bits, c.run(c.table_map(), 0, 5, device_blocks(), nullptr, share));
  }
  for (int row = 0; row < 5; ++row) {
    const auto alone = c.run(c.table_map(), row, 1, device_blocks());
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), bits.begin() + row * c.width())) << row;
  }
}

// Pairs of blocks with several items each, most of them too short for both: nobody may run ahead of
// a block that has nothing to do.
TEST_F(DecodeAttention, PairsWithManyShortRowsEnd) {
  RandomStream random(17, "short rows");
  for (const int group : {1, 2, 8, 12}) {
    Shape s{8, group, 128, 16, DType::bf16, {}, {}, 43};
    for (int r = 0; r < 70; ++r) {
      s.length.push_back(r % 35 == 0 ? 3000 : static_cast<int>(random.below(4) * random.below(43)));
      s.map_row.push_back(r);
    }
    const Case c(s);
    const auto bits = c.run(c.table_map(), 0, 70, device_blocks());
    EXPECT_LE(error_of(c, bits), tolerance(DType::bf16)) << s.text();
    for (int i = 0; i < 30; ++i) {
      ASSERT_EQ(bits, c.run(c.table_map(), 0, 70, device_blocks() - i)) << s.text();
    }
  }
}

TEST_F(DecodeAttention, ReadsNothingUnstableBeforeItsTurn) {
  Shape s{4, 4, 128, 16, DType::f16, {}, {}, 3};
  std::vector<std::int32_t> stable;
  for (int r = 0; r < 40; ++r) {
    s.length.push_back(1 + 37 * r);
    s.map_row.push_back(r);
    stable.push_back(r % 3 ? 37 * r : 20 * r);
  }
  const Case c(s);
  const DeviceArray<std::int32_t> on_device(stable);
  const auto all = c.run(c.table_map(), 0, 40, device_blocks());
  EXPECT_EQ(all, c.run(c.table_map(), 0, 40, device_blocks(), on_device.get()));
}

TEST_F(DecodeAttention, LongContexts) {
  for (const int length : {131072, 131071, 100001}) {
    const Case c(Shape{1, 4, 128, 16, DType::f16, {length, 5}, {0, 1}, 11});
    const auto bits = c.run(c.table_map(), 0, 2, device_blocks());
    EXPECT_LE(error_of(c, bits), tolerance(DType::f16)) << length;
    EXPECT_EQ(bits, c.run(c.table_map(), 0, 2, 1));
    EXPECT_EQ(bits, c.run(c.affine_map(), 0, 2, 7));
  }
}

TEST_F(DecodeAttention, RefusesWhatHasNoBody) {
  const Case c(Shape{2, 2, 64, 16, DType::f16, {10}, {0}, 1});
  auto a = c.args(c.table_map(), nullptr, 0, 1);
  const DecodeSchedule s = decode_schedule(1, 10, 4, c.layout, 4);
  a.pool.layout.head_dim = 72;
  EXPECT_THROW(decode_attention(a, s, nullptr, nullptr), std::invalid_argument);
}

}  // namespace
}  // namespace kvstow::kernels::cuda
