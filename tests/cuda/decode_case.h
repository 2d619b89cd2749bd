// A step of decoding as the tests of every decode body set it up.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/cuda/decode_attention.h"
#include "tests/cuda/placement.h"

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
  explicit DecodeCase(const DecodeShape& s)
      : shape(s),
        placement(longest_rows(s), s.block_tokens, s.seed, Placement::Gaps::edges),
        layout{2, s.kv_heads, s.head_dim, placement.slots(), s.dtype},
        pools(layout, placement, s.seed),
        map_row(s.map_row),
        length(s.length),
        q(s.length.size() * static_cast<std::size_t>(width())) {
    fill_uniform(q.get(), q.size(), s.dtype, 1.5f, s.seed + 1, nullptr);
    KVSTOW_CUDA(cudaDeviceSynchronize());
  }

  [[nodiscard]] int heads() const { return shape.kv_heads * shape.group; }
  [[nodiscard]] std::int64_t width() const { return std::int64_t{heads()} * shape.head_dim; }
  [[nodiscard]] BlockTableMap table_map() const { return placement.table(); }
  [[nodiscard]] AffineMap affine_map() const { return placement.affine(); }

  template <class Map>
  DecodeAttentionArgs<Map> args(const Map& map, void* out, int first, int rows) const {
    return {.pool = pools.of(map),
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

  // Runs rows [first, first + rows) on a grid of `blocks` three times in a chain, the second launch
  // a dependent one, and returns the bits of the last.
  template <class Map>
  std::vector<std::uint16_t> run(const Map& map, int first, int rows, int blocks,
                                 const std::int32_t* stable = nullptr,
                                 DecodeShare share = DecodeShare::all) const {
    DeviceArray<std::uint16_t> out(static_cast<std::size_t>(rows * width()));
    const DecodeSchedule schedule =
        decode_schedule(rows, placement.longest(), heads(), layout, blocks, share);
    DeviceArray<unsigned char> workspace(static_cast<std::size_t>(schedule.workspace_bytes));
    workspace.fill_bytes(0xff);
    plan_decode_attention(schedule, map_row.get() + first, length.get() + first, rows,
                          workspace.get(), nullptr);
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

  // The longest of the rows that share a map row.
  static std::vector<std::int32_t> longest_rows(const DecodeShape& s) {
    std::vector<std::int32_t> longest(
        1 + static_cast<std::size_t>(*std::max_element(s.map_row.begin(), s.map_row.end())));
    for (std::size_t r = 0; r < s.length.size(); ++r) {
      auto& l = longest[static_cast<std::size_t>(s.map_row[r])];
      l = std::max(l, s.length[r]);
    }
    return longest;
  }

  DecodeShape shape;
  Placement placement;
  KvLayout layout;
  PoisonedPools pools;
  DeviceArray<std::int32_t> map_row;
  DeviceArray<std::int32_t> length;
  DeviceArray<std::uint16_t> q;
};

inline double error_of(const DecodeCase& c, const std::vector<std::uint16_t>& bits) {
  const int rows = static_cast<int>(c.shape.length.size());
  DeviceArray<std::uint16_t> out(bits);
  const auto a = c.args(c.table_map(), out.get(), 0, rows);
  DeviceArray<double> scratch(static_cast<std::size_t>(rows) * c.heads() *
                              std::max(1, c.placement.longest()));
  DeviceArray<double> reference(bits.size());
  decode_in_double(a, c.placement.longest(), scratch.get(), reference.get(), nullptr);
  KVSTOW_CUDA(cudaDeviceSynchronize());
  return relative_l2(out.get(), c.shape.dtype, reference.get(), bits.size());
}

}  // namespace kvstow::kernels::cuda::testing
