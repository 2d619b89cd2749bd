// Decode attention on the GPU against double precision, over random shapes; and its bits, which
// must not depend on the batch, the map, the block size, the grid or the neighbours.
#include "kernels/cuda/decode_attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "core/rng.h"
#include "tests/cuda/device_case.h"

namespace kvstow::kernels::cuda {
namespace {

using testing::DeviceArray;

struct Shape {
  int kv_heads;
  int group;
  int head_dim;
  int block_tokens;
  DType dtype;
  std::vector<std::int32_t> length;   // of each row
  std::vector<std::int32_t> map_row;  // of each row
  std::uint64_t seed;

  [[nodiscard]] std::string text() const {
    std::string s = "kv_heads " + std::to_string(kv_heads) + " group " + std::to_string(group) +
                    " dim " + std::to_string(head_dim) + " block " + std::to_string(block_tokens) +
                    (dtype == DType::f16 ? " f16" : " bf16") + " seed " + std::to_string(seed) +
                    " lengths";
    for (std::size_t i = 0; i < length.size() && i < 12; ++i) {
      s.append(" ").append(std::to_string(length[i]));
    }
    return s;
  }
};

// A pool that is NaN wherever no token lies, and one map of each kind into it.
class Case {
 public:
  explicit Case(const Shape& s) : shape(s) {
    const int rows = static_cast<int>(s.length.size());
    map_rows = 1 + *std::max_element(s.map_row.begin(), s.map_row.end());
    std::vector<std::int32_t> longest(static_cast<std::size_t>(map_rows));
    for (int r = 0; r < rows; ++r) {
      auto& l = longest[static_cast<std::size_t>(s.map_row[r])];
      l = std::max(l, s.length[r]);
    }
    max_length = *std::max_element(longest.begin(), longest.end());
    stride = std::max<std::int64_t>(1, ceil_div(max_length, s.block_tokens)) + 2;
    std::int64_t blocks = 3;
    for (const std::int32_t l : longest) blocks += ceil_div(l, s.block_tokens);
    std::vector<std::int32_t> order(static_cast<std::size_t>(blocks));
    std::iota(order.begin(), order.end(), 0);
    RandomStream random(s.seed, "blocks");
    for (std::size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[random.below(static_cast<std::uint32_t>(i))]);
    }
    std::vector<std::int32_t> table(static_cast<std::size_t>(map_rows * stride), -1);
    std::vector<std::int64_t> starts;
    std::int64_t next_start = 5;
    std::size_t used = 0;
    for (int r = 0; r < map_rows; ++r) {
      const auto l = longest[static_cast<std::size_t>(r)];
      for (std::int64_t i = 0; i < ceil_div(l, s.block_tokens); ++i) {
        table[static_cast<std::size_t>(r * stride + i)] = order[used++];
      }
      starts.push_back(next_start);
      next_start += l + 1;
    }
    layout = {2, s.kv_heads, s.head_dim, std::max(blocks * s.block_tokens, next_start + 1),
              s.dtype};
    ids = DeviceArray<std::int32_t>(table);
    firsts = DeviceArray<std::int64_t>(starts);
    map_row = DeviceArray<std::int32_t>(s.map_row);
    length = DeviceArray<std::int32_t>(s.length);
    DeviceArray<std::int32_t> filled(longest);
    for (auto* pool : {&table_pool, &affine_pool}) {
      *pool = DeviceArray<std::uint16_t>(static_cast<std::size_t>(layout.elements()));
      pool->fill_bytes(0xff);  // NaN in both dtypes
    }
    testing::fill_kv(KvPool{table_pool.get(), layout}, table_map(), filled.get(), map_rows, s.seed,
                     nullptr);
    testing::fill_kv(KvPool{affine_pool.get(), layout}, affine_map(), filled.get(), map_rows,
                     s.seed, nullptr);
    q = DeviceArray<std::uint16_t>(static_cast<std::size_t>(rows * width()));
    testing::fill_uniform(q.get(), q.size(), s.dtype, 1.5f, s.seed + 1, nullptr);
    KVSTOW_CUDA(cudaDeviceSynchronize());
  }

  [[nodiscard]] int heads() const { return shape.kv_heads * shape.group; }
  [[nodiscard]] std::int64_t width() const { return std::int64_t{heads()} * shape.head_dim; }
  [[nodiscard]] BlockTableMap table_map() const { return {ids.get(), stride, shape.block_tokens}; }
  [[nodiscard]] AffineMap affine_map() const { return {firsts.get()}; }

  template <class Map>
  DecodeAttentionArgs<Map> args(const Map& map, void* out, int first, int rows) const {
    const bool table = std::is_same_v<Map, BlockTableMap>;
    return {.pool = {table ? table_pool.get() : affine_pool.get(), layout},
            .layer = 1,
            .map = map,
            .rows = rows,
            .heads = heads(),
            .q = q.get() + first * width(),
            .q_stride = width(),
            .out = out,
            .out_stride = width(),
            .map_row = map_row.get() + first,
            .length = length.get() + first,
            .stable_length = nullptr,
            .scale = 1 / std::sqrt(static_cast<float>(shape.head_dim)),
            .dtype = shape.dtype};
  }

  // Runs rows [first, first + rows) on a grid of `blocks`, twice in a chain, and returns the bits.
  template <class Map>
  std::vector<std::uint16_t> run(const Map& map, int first, int rows, int blocks,
                                 const std::int32_t* stable = nullptr) const {
    DeviceArray<std::uint16_t> out(static_cast<std::size_t>(rows * width()));
    const DecodeSchedule schedule = decode_schedule(rows, max_length, heads(), layout, blocks);
    DeviceArray<unsigned char> workspace(static_cast<std::size_t>(schedule.workspace.bytes));
    workspace.fill_bytes(0);
    plan_decode_attention(schedule, length.get() + first, rows, workspace.get(), nullptr);
    auto a = args(map, out.get(), first, rows);
    a.stable_length = stable;
    for (int i = 0; i < 3; ++i) {
      if (i == 2) KVSTOW_CUDA(cudaMemsetAsync(out.get(), 0xff, out.size() * 2));
      decode_attention(a, schedule, workspace.get(), nullptr,
                       i == 1 ? Dependent::yes : Dependent::no);
    }
    KVSTOW_CUDA_SHAPE(cudaDeviceSynchronize(), shape.text());
    return out.host();
  }

  Shape shape;
  KvLayout layout{};
  int map_rows = 0;
  int max_length = 0;
  std::int64_t stride = 0;
  DeviceArray<std::int32_t> ids;
  DeviceArray<std::int64_t> firsts;
  DeviceArray<std::int32_t> map_row;
  DeviceArray<std::int32_t> length;
  DeviceArray<std::uint16_t> table_pool;
  DeviceArray<std::uint16_t> affine_pool;
  DeviceArray<std::uint16_t> q;
};

double error_of(const Case& c, const std::vector<std::uint16_t>& bits) {
  const int rows = static_cast<int>(c.shape.length.size());
  DeviceArray<std::uint16_t> out(bits);
  const auto a = c.args(c.table_map(), out.get(), 0, rows);
  DeviceArray<double> scratch(static_cast<std::size_t>(rows) * c.heads() *
                              std::max(1, c.max_length));
  DeviceArray<double> reference(bits.size());
  testing::decode_in_double(a, c.max_length, scratch.get(), reference.get(), nullptr);
  KVSTOW_CUDA(cudaDeviceSynchronize());
  return testing::relative_l2(out.get(), c.shape.dtype, reference.get(), bits.size());
}

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
  const char* text = std::getenv("KVSTOW_TEST_SHAPES");
  return text ? std::atoi(text) : 100;
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
  std::printf("worst relative L2: f16 %.2e, bf16 %.2e\n", worst[0], worst[1]);
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
