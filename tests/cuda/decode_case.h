// A step of decoding as the tests of every decode body set it up: a pool that is NaN wherever no
// token lies, and one map of each kind into it.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "core/rng.h"
#include "kernels/cuda/decode_attention.h"
#include "tests/cuda/device_case.h"

namespace kvstow::kernels::cuda::testing {

// The rows of a step, and what they lie in.
struct DecodeShape {
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
struct DecodeCase {
  explicit DecodeCase(const DecodeShape& s) : shape(s) {
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
    fill_kv(KvPool{table_pool.get(), layout}, table_map(), filled.get(), map_rows, s.seed, nullptr);
    fill_kv(KvPool{affine_pool.get(), layout}, affine_map(), filled.get(), map_rows, s.seed,
            nullptr);
    q = DeviceArray<std::uint16_t>(static_cast<std::size_t>(rows * width()));
    fill_uniform(q.get(), q.size(), s.dtype, 1.5f, s.seed + 1, nullptr);
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

  DecodeShape shape;
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

inline double error_of(const DecodeCase& c, const std::vector<std::uint16_t>& bits) {
  const int rows = static_cast<int>(c.shape.length.size());
  DeviceArray<std::uint16_t> out(bits);
  const auto a = c.args(c.table_map(), out.get(), 0, rows);
  DeviceArray<double> scratch(static_cast<std::size_t>(rows) * c.heads() *
                              std::max(1, c.max_length));
  DeviceArray<double> reference(bits.size());
  decode_in_double(a, c.max_length, scratch.get(), reference.get(), nullptr);
  KVSTOW_CUDA(cudaDeviceSynchronize());
  return relative_l2(out.get(), c.shape.dtype, reference.get(), bits.size());
}

}  // namespace kvstow::kernels::cuda::testing
