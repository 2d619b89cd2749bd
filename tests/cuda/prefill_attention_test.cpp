// Prefill attention on the GPU against double precision over random shapes; and its bits, which
// must not depend on the batch, the map, the block size or the chunks a prompt is cut into.
#include "kernels/cuda/prefill_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "core/rng.h"
#include "tests/cuda/placement.h"

namespace kvstow::kernels::cuda {
namespace {

using testing::DeviceArray;
using testing::Placement;
using Bits = std::vector<std::uint16_t>;

struct Sequence {
  std::int32_t first;  // tokens in the cache before
  std::int32_t rows;
};

struct Shape {
  int kv_heads;
  int group;
  int head_dim;
  int block_tokens;
  DType dtype;
  std::vector<Sequence> sequences;
  std::uint64_t seed;

  [[nodiscard]] std::string text() const {
    std::string s = "kv_heads " + std::to_string(kv_heads) + " group " + std::to_string(group) +
                    " dim " + std::to_string(head_dim) + " block " + std::to_string(block_tokens) +
                    (dtype == DType::f16 ? " f16" : " bf16") + " seed " + std::to_string(seed);
    for (const Sequence& q : sequences) {
      s.append(" ").append(std::to_string(q.first)).append("+").append(std::to_string(q.rows));
    }
    return s;
  }
};

// Pools that are NaN wherever no token lies, a map of each kind, and queries for every position.
class Case {
 public:
  explicit Case(const Shape& s)
      : shape(s),
        placement(lengths_of(s), s.block_tokens, s.seed, Placement::Gaps::edges),
        layout{2, s.kv_heads, s.head_dim, placement.slots(), s.dtype},
        pools(layout, placement, s.seed) {
    for (const std::int32_t length : lengths_of(s)) {
      query_begin.push_back(queries);
      queries += length;
    }
    q = DeviceArray<std::uint16_t>(static_cast<std::size_t>(queries * width()));
    testing::fill_uniform(q.get(), q.size(), s.dtype, 1.5f, s.seed + 1, nullptr);
    KVSTOW_CUDA(cudaDeviceSynchronize());
  }

  [[nodiscard]] int heads() const { return shape.kv_heads * shape.group; }
  [[nodiscard]] std::int64_t width() const { return std::int64_t{heads()} * shape.head_dim; }
  [[nodiscard]] float scale() const { return 1 / std::sqrt(static_cast<float>(shape.head_dim)); }
  [[nodiscard]] BlockTableMap table_map() const { return placement.table(); }
  [[nodiscard]] AffineMap affine_map() const { return placement.affine(); }

  // One launch over rows [first, first + rows) of some sequences; their bits, one after the other.
  struct Part {
    int sequence;
    Sequence rows;
  };
  template <class Map>
  Bits run(const Map& map, const std::vector<Part>& parts) const {
    std::vector<std::int32_t> row_begin{0}, map_row, first;
    for (const Part& p : parts) {
      row_begin.push_back(row_begin.back() + p.rows.rows);
      map_row.push_back(p.sequence);
      first.push_back(p.rows.first);
    }
    const std::int32_t rows = row_begin.back();
    DeviceArray<std::uint16_t> own_q(static_cast<std::size_t>(rows * width()));
    DeviceArray<std::uint16_t> out(own_q.size());
    out.fill_bytes(0xff);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const std::int64_t from = query_begin[parts[i].sequence] + parts[i].rows.first;
      KVSTOW_CUDA(cudaMemcpy(own_q.get() + row_begin[i] * width(), q.get() + from * width(),
                             static_cast<std::size_t>(parts[i].rows.rows * width() * 2),
                             cudaMemcpyDeviceToDevice));
    }
    const DeviceArray<std::int32_t> on_begin(row_begin), on_map_row(map_row), on_first(first);
    prefill_attention(PrefillAttentionArgs<Map>{.pool = pools.of(map),
                                                .layer = 1,
                                                .map = map,
                                                .sequences = static_cast<int>(parts.size()),
                                                .heads = heads(),
                                                .q = own_q.get(),
                                                .q_stride = width(),
                                                .out = out.get(),
                                                .out_stride = width(),
                                                .row_begin = on_begin.get(),
                                                .map_row = on_map_row.get(),
                                                .first = on_first.get(),
                                                .scale = scale(),
                                                .dtype = shape.dtype},
                      rows, nullptr);
    KVSTOW_CUDA_SHAPE(cudaDeviceSynchronize(), shape.text());
    return out.host();
  }

  [[nodiscard]] std::vector<Part> all() const {
    std::vector<Part> parts;
    for (std::size_t i = 0; i < shape.sequences.size(); ++i) {
      parts.push_back({static_cast<int>(i), shape.sequences[i]});
    }
    return parts;
  }

  // Every query row as a decode row of its own length.
  [[nodiscard]] double error_of(const Bits& bits) const {
    std::vector<std::int32_t> map_row, length;
    Bits queries_of_rows;
    const Bits host_q = q.host();
    for (std::size_t i = 0; i < shape.sequences.size(); ++i) {
      for (std::int32_t r = 0; r < shape.sequences[i].rows; ++r) {
        map_row.push_back(static_cast<std::int32_t>(i));
        length.push_back(shape.sequences[i].first + r + 1);
        const auto from = host_q.begin() + (query_begin[i] + length.back() - 1) * width();
        queries_of_rows.insert(queries_of_rows.end(), from, from + width());
      }
    }
    const int rows = static_cast<int>(map_row.size());
    const DeviceArray<std::int32_t> on_map_row(map_row), on_length(length);
    const DeviceArray<std::uint16_t> own_q(queries_of_rows), got(bits);
    DeviceArray<double> scratch(static_cast<std::size_t>(rows) * heads() * placement.longest());
    DeviceArray<double> want(bits.size());
    testing::decode_in_double(
        DecodeAttentionArgs<BlockTableMap>{pools.of(table_map()), 1, table_map(), rows, heads(),
                                           own_q.get(), width(), nullptr, 0, on_map_row.get(),
                                           on_length.get(), nullptr, scale(), shape.dtype},
        placement.longest(), scratch.get(), want.get(), nullptr);
    KVSTOW_CUDA(cudaDeviceSynchronize());
    return testing::relative_l2(got.get(), shape.dtype, want.get(), bits.size());
  }

  Shape shape;
  Placement placement;
  KvLayout layout;
  testing::PoisonedPools pools;
  std::int64_t queries = 0;
  std::vector<std::int64_t> query_begin;
  DeviceArray<std::uint16_t> q;

 private:
  static std::vector<std::int32_t> lengths_of(const Shape& s) {
    std::vector<std::int32_t> lengths;
    for (const Sequence& q : s.sequences) lengths.push_back(q.first + q.rows);
    return lengths;
  }
};

Shape random_shape(RandomStream& random, std::uint64_t seed) {
  constexpr int kDims[] = {64, 80, 96, 128, 256};
  constexpr int kGroups[] = {1, 2, 3, 4, 5, 7, 8};
  constexpr int kBlocks[] = {1, 2, 3, 8, 16, 17, 32, 100, 128, 256};
  constexpr std::int32_t kSpecial[] = {1, 63, 64, 65, 127, 128, 129};
  Shape s{1 + static_cast<int>(random.below(4)),
          kGroups[random.below(7)],
          kDims[random.below(5)],
          kBlocks[random.below(10)],
          random.below(2) ? DType::f16 : DType::bf16,
          {},
          seed};
  const int count = 1 + static_cast<int>(random.below(6));
  for (int i = 0; i < count; ++i) {
    const std::int32_t rows = random.below(3) == 0
                                  ? kSpecial[random.below(7)]
                                  : 1 + static_cast<std::int32_t>(random.below(500));
    const std::int32_t before =
        random.below(2) == 0 ? 0 : static_cast<std::int32_t>(random.below(700));
    s.sequences.push_back({before, rows});
  }
  return s;
}

class PrefillAttention : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::have_device()) GTEST_SKIP() << "skipped: no CUDA device";
  }
};

int shapes() {
  return testing::from_environment("KVSTOW_TEST_SHAPES", 60);
}

TEST_F(PrefillAttention, AgreesWithDoublePrecisionOnRandomShapes) {
  RandomStream random(7, "prefill shapes");
  double worst[2] = {};
  for (int i = 0; i < shapes(); ++i) {
    const Case c(random_shape(random, static_cast<std::uint64_t>(i)));
    const Bits bits = c.run(c.table_map(), c.all());
    const double error = c.error_of(bits);
    ASSERT_LE(error, c.shape.dtype == DType::f16 ? 7e-4 : 3e-3) << c.shape.text();
    double& w = worst[c.shape.dtype == DType::f16 ? 0 : 1];
    w = std::max(w, error);
    ASSERT_EQ(bits, c.run(c.affine_map(), c.all())) << c.shape.text();
  }
  RecordProperty("shapes", shapes());
  RecordProperty("worst_relative_l2_f16", std::to_string(worst[0]));
  RecordProperty("worst_relative_l2_bf16", std::to_string(worst[1]));
}

TEST_F(PrefillAttention, ChunksAndNeighboursDoNotChangeARow) {
  RandomStream random(8, "prefill chunks");
  for (int i = 0; i < shapes(); ++i) {
    const Case c(random_shape(random, 1000 + static_cast<std::uint64_t>(i)));
    const Bits together = c.run(c.table_map(), c.all());
    std::int64_t row = 0;
    for (std::size_t s = 0; s < c.shape.sequences.size(); ++s) {
      const Sequence& q = c.shape.sequences[s];
      const auto cut = static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(q.rows)));
      Bits in_chunks;
      for (const Sequence chunk : {Sequence{q.first, cut}, Sequence{q.first + cut, q.rows - cut}}) {
        if (chunk.rows == 0) continue;
        const Bits part = c.run(c.table_map(), {{static_cast<int>(s), chunk}});
        in_chunks.insert(in_chunks.end(), part.begin(), part.end());
      }
      ASSERT_TRUE(
          std::equal(in_chunks.begin(), in_chunks.end(), together.begin() + row * c.width()))
          << "sequence " << s << " cut at " << cut << ", " << c.shape.text();
      row += q.rows;
    }
  }
}

TEST_F(PrefillAttention, SequencesWithoutRowsAreSkipped) {
  const Case c(Shape{2, 2, 64, 16, DType::f16, {{5, 70}, {0, 140}}, 5});
  const Bits want = c.run(c.table_map(), c.all());
  const Bits got =
      c.run(c.table_map(), {{0, {0, 0}}, {0, {5, 70}}, {1, {0, 0}}, {1, {0, 140}}, {0, {0, 0}}});
  EXPECT_EQ(got, want);
}

// More tiles than are sorted by length.
TEST_F(PrefillAttention, ManyShortPrompts) {
  RandomStream random(13, "short prompts");
  Shape s{2, 2, 64, 16, DType::f16, {}, 6};
  for (int i = 0; i < 700; ++i) {
    s.sequences.push_back({static_cast<std::int32_t>(random.below(40)),
                           1 + static_cast<std::int32_t>(random.below(3))});
  }
  const Case c(s);
  const Bits bits = c.run(c.table_map(), c.all());
  EXPECT_LE(c.error_of(bits), 7e-4);
  EXPECT_EQ(bits, c.run(c.affine_map(), c.all()));
}

TEST_F(PrefillAttention, LongPrompts) {
  const Case c(Shape{1, 2, 128, 16, DType::f16, {{9000, 300}, {0, 2048}}, 11});
  const Bits bits = c.run(c.table_map(), c.all());
  EXPECT_LE(c.error_of(bits), 7e-4);
  EXPECT_EQ(bits, c.run(c.affine_map(), c.all()));
}

TEST_F(PrefillAttention, RefusesWhatHasNoBody) {
  PrefillAttentionArgs<AffineMap> a{};
  a.pool.layout = {1, 2, 72, 16, DType::f16};
  a.dtype = DType::f16;
  a.sequences = 1;
  a.heads = 2;
  EXPECT_THROW(prefill_attention(a, 4, nullptr), std::invalid_argument);
  a.heads = 3;
  EXPECT_THROW(prefill_attention(a, 4, nullptr), std::invalid_argument);
}

}  // namespace
}  // namespace kvstow::kernels::cuda
