// Attention against the reference, and its promise of identity: the same bits under every map,
// block size, batch, chunking of the prompt and number of threads.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/cpu/cpu.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/random_floats.h"

namespace kvstow::kernels {
namespace {

constexpr int kLayers = 2;
constexpr int kLayer = 1;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Shape {
  int heads;
  int kv_heads;
  int head_dim;
};

// One sequence's K and V, put into a pool under some map; everything else in the pool is NaN, and
// table entries past the end are -1.
struct Placed {
  std::vector<float> data;
  KvPool pool;
  std::int64_t first = 0;
  std::vector<std::int32_t> table;
  int block_tokens = 0;  // 0: affine

  [[nodiscard]] AffineMap affine() const { return {&first}; }
  [[nodiscard]] BlockTableMap blocks() const {
    return {table.data(), static_cast<std::int64_t>(table.size()), block_tokens};
  }
};

Placed place(const Shape& shape, int length, int block_tokens, const std::vector<float>& k,
             const std::vector<float>& v) {
  Placed p;
  p.block_tokens = block_tokens;
  const std::int64_t unit = block_tokens == 0 ? 1 : block_tokens;
  const std::int64_t blocks = ceil_div(length, unit);
  const std::int64_t slots = (block_tokens == 0 ? length + 5 : 2 * blocks + 3) * unit;
  p.pool.layout = {kLayers, shape.kv_heads, shape.head_dim, slots, DType::f32};
  p.data.assign(static_cast<std::size_t>(p.pool.layout.elements()), kNan);
  p.pool.data = p.data.data();
  p.first = 3;
  p.table.assign(static_cast<std::size_t>(blocks) + 2, -1);
  for (std::int64_t b = 0; b < blocks; ++b) {  // scattered, backwards
    p.table[static_cast<std::size_t>(b)] = static_cast<std::int32_t>(2 * (blocks - b));
  }
  std::vector<std::int64_t> slot(static_cast<std::size_t>(length));
  for (int t = 0; t < length; ++t) {
    slot[static_cast<std::size_t>(t)] =
        block_tokens == 0 ? p.affine().slot(0, t) : p.blocks().slot(0, t);
  }
  cpu::ThreadPool threads(1);
  const std::int64_t width = p.pool.layout.slot_stride();
  cpu::write_kv({p.pool, kLayer, length, k.data(), v.data(), width, width, slot.data(), DType::f32},
                threads);
  return p;
}

// Query rows at positions [first, first + rows) of the placed sequence.
std::vector<float> prefill(const Placed& p, const Shape& shape, const float* q, int first, int rows,
                           cpu::ThreadPool& threads, bool reference = false) {
  const std::int64_t width = std::int64_t{shape.heads} * shape.head_dim;
  std::vector<float> out(static_cast<std::size_t>(rows * width), kNan);
  const std::int32_t row_begin[] = {0, rows};
  const std::int32_t zero = 0;
  const auto run = [&](auto map) {
    const PrefillAttentionArgs<decltype(map)> args{
        p.pool,     kLayer, map,       1,     shape.heads, q,      width,
        out.data(), width,  row_begin, &zero, &first,      0.125f, DType::f32};
    reference ? reference::prefill_attention(args) : cpu::prefill_attention(args, threads);
  };
  p.block_tokens == 0 ? run(p.affine()) : run(p.blocks());
  return out;
}

// One row for every length in `lengths`, all of them reading map row 0.
std::vector<float> decode(const Placed& p, const Shape& shape, const float* q,
                          const std::vector<std::int32_t>& lengths, cpu::ThreadPool& threads,
                          bool reference = false) {
  const std::int64_t width = std::int64_t{shape.heads} * shape.head_dim;
  const int rows = static_cast<int>(lengths.size());
  std::vector<float> out(static_cast<std::size_t>(rows * width), kNan);
  const std::vector<std::int32_t> map_row(lengths.size(), 0);
  const auto run = [&](auto map) {
    const DecodeAttentionArgs<decltype(map)> args{
        p.pool,         kLayer,         map,     rows,   shape.heads, q, width, out.data(), width,
        map_row.data(), lengths.data(), nullptr, 0.125f, DType::f32};
    reference ? reference::decode_attention(args) : cpu::decode_attention(args, threads);
  };
  p.block_tokens == 0 ? run(p.affine()) : run(p.blocks());
  return out;
}

// f32 sums of up to n terms against double: a few sqrt(n) units in the last place of the largest.
void expect_near(const std::vector<float>& got, const std::vector<float>& want) {
  ASSERT_EQ(got.size(), want.size());
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(std::isfinite(got[i])) << i;
    error += std::pow(double{got[i]} - double{want[i]}, 2);
    norm += std::pow(double{want[i]}, 2);
  }
  EXPECT_LE(std::sqrt(error), 2e-6 * std::sqrt(norm));
}

class Attention : public ::testing::TestWithParam<Shape> {};

TEST_P(Attention, MatchesTheReferenceAndKeepsItsBits) {
  const Shape shape = GetParam();
  constexpr int kLength = 300;  // two chunk boundaries
  const auto kv_size = static_cast<std::size_t>(kLength) * shape.kv_heads * shape.head_dim;
  const auto k = random_floats(kv_size, 1, 0.5);
  const auto v = random_floats(kv_size, 2);
  const auto q = random_floats(static_cast<std::size_t>(kLength) * shape.heads * shape.head_dim, 3);
  const std::size_t width = static_cast<std::size_t>(shape.heads) * shape.head_dim;
  cpu::ThreadPool one(1);
  cpu::ThreadPool three(3);

  const Placed affine = place(shape, kLength, 0, k, v);
  const std::vector<float> all = prefill(affine, shape, q.data(), 0, kLength, one);
  expect_near(all, prefill(affine, shape, q.data(), 0, kLength, one, true));

  std::vector<std::int32_t> lengths(kLength);
  std::iota(lengths.begin(), lengths.end(), 1);
  EXPECT_EQ(decode(affine, shape, q.data(), lengths, three), all);  // batch of 300 rows

  for (const int block_tokens : {1, 7, 16, 128}) {
    const Placed paged = place(shape, kLength, block_tokens, k, v);
    if (block_tokens == 7) expect_near(all, prefill(paged, shape, q.data(), 0, kLength, one, true));
    EXPECT_EQ(prefill(paged, shape, q.data(), 0, kLength, three), all) << block_tokens;
    EXPECT_EQ(decode(paged, shape, q.data(), lengths, one), all) << block_tokens;
    for (int first = 0; block_tokens == 16 && first < kLength; first += 77) {  // prompt in chunks
      const int rows = std::min(77, kLength - first);
      const std::vector<float> part = prefill(
          paged, shape, q.data() + static_cast<std::size_t>(first) * width, first, rows, one);
      EXPECT_TRUE(std::equal(part.begin(), part.end(),
                             all.begin() + static_cast<std::ptrdiff_t>(first * width)))
          << block_tokens << " " << first;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Attention,
                         ::testing::Values(Shape{2, 2, 64}, Shape{8, 1, 16}, Shape{4, 2, 24},
                                           Shape{4, 1, 20}, Shape{2, 2, 4}, Shape{2, 1, 80}));

TEST(Attention, LengthZeroGivesZeros) {
  const Shape shape{2, 1, 16};
  const auto k = random_floats(16 * 4, 1);
  const Placed p = place(shape, 4, 2, k, k);
  const auto q = random_floats(2 * 32, 2);
  cpu::ThreadPool threads(1);
  for (const bool reference : {false, true}) {
    const std::vector<float> out = decode(p, shape, q.data(), {0, 4}, threads, reference);
    EXPECT_EQ(std::vector<float>(out.begin(), out.begin() + 32), std::vector<float>(32, 0.0f));
    EXPECT_TRUE(std::isfinite(out[32]));
  }
}

TEST(Attention, EveryInstructionSetAgreesWithTheReference) {
  constexpr int kDim = 72;  // a tail of 8 floats
  constexpr int kN = 101;
  const auto q = random_floats(kDim, 1);
  const auto k = random_floats(kDim * kN, 2);
  const auto v = random_floats(kDim * kN, 3);
  std::vector<std::int64_t> offset(kN);
  for (int t = 0; t < kN; ++t) offset[static_cast<std::size_t>(t)] = std::int64_t{t} * kDim;
  std::vector<float> want(kDim);
  const std::int64_t zero = 0;
  std::vector<float> pool_data(k);
  pool_data.insert(pool_data.end(), v.begin(), v.end());
  const KvPool pool{pool_data.data(), {1, 1, kDim, kN, DType::f32}};
  const std::int32_t row = 0;
  const std::int32_t length = kN;
  reference::decode_attention(DecodeAttentionArgs<AffineMap>{pool,
                                                             0,
                                                             {&zero},
                                                             1,
                                                             1,
                                                             q.data(),
                                                             kDim,
                                                             want.data(),
                                                             kDim,
                                                             &row,
                                                             &length,
                                                             nullptr,
                                                             0.2f,
                                                             DType::f32});
  for (const cpu::Isa* isa : cpu::available_isas()) {
    SCOPED_TRACE(isa->name);
    std::vector<float> got(kDim);
    cpu::AttentionState state{0, 0, got.data()};
    isa->attend_chunk(q.data(), k.data(), v.data(), offset.data(), kN, kDim, 0.2f, true, state);
    for (float& x : got) x /= state.sum;
    expect_near(got, want);
  }
}

TEST(WriteKv, SlotMinusOneWritesNothing) {
  std::vector<float> data(2 * 4 * 2, 7.0f);
  const KvPool pool{data.data(), {1, 1, 2, 4, DType::f32}};
  const float k[] = {1, 2, 3, 4};
  const float v[] = {5, 6, 8, 9};
  const std::int64_t slots[] = {-1, 2};
  cpu::ThreadPool threads(1);
  cpu::write_kv({pool, 0, 2, k, v, 2, 2, slots, DType::f32}, threads);
  const std::vector<float> want{7, 7, 7, 7, 3, 4, 7, 7, 7, 7, 7, 7, 8, 9, 7, 7};
  EXPECT_EQ(data, want);
}

}  // namespace
}  // namespace kvstow::kernels
