// A step of decoding as the benchmarks of every decode body set it up.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "bench/kernels_cuda/lab.h"
#include "core/rng.h"
#include "kernels/cuda/decode_attention.h"

namespace kvstow::bench {

// One step of decoding: rows of the given lengths, pages in random order, one layer per launch.
struct DecodeCase {
  using AffineMap = kernels::AffineMap;
  using BlockTableMap = kernels::BlockTableMap;
  using KvLayout = kernels::KvLayout;
  using DType = kernels::DType;
  template <class E>
  using DeviceArray = kernels::cuda::testing::DeviceArray<E>;

  DecodeCase(const ModelShape& m, const std::vector<std::int32_t>& lengths, int block_tokens)
      : model(m),
        rows(static_cast<int>(lengths.size())),
        longest(*std::max_element(lengths.begin(), lengths.end())) {
    Lab& lab = Lab::get();
    const std::int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
    bytes = static_cast<std::size_t>(4 * tokens * m.kv_heads * m.head_dim);
    launches = chain_launches(static_cast<double>(bytes));
    std::int64_t blocks = 0;
    std::int64_t stride = 0;
    for (const std::int32_t l : lengths) {
      blocks += ceil_div(l, block_tokens);
      stride = std::max(stride, ceil_div(l, block_tokens));
    }
    layout = {launches, m.kv_heads, m.head_dim, blocks * block_tokens, DType::f16};
    pool = lab.numbers(static_cast<std::size_t>(layout.elements()) * 2);
    std::vector<std::int32_t> order(static_cast<std::size_t>(blocks));
    std::iota(order.begin(), order.end(), 0);
    RandomStream random(5, "pages");
    for (std::size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[random.below(static_cast<std::uint32_t>(i))]);
    }
    std::vector<std::int32_t> table(static_cast<std::size_t>(rows * stride), -1);
    std::vector<std::int64_t> starts;
    std::vector<std::int32_t> map_rows(lengths.size());
    std::vector<std::int32_t> stable(lengths);
    std::iota(map_rows.begin(), map_rows.end(), 0);
    std::size_t used = 0;
    for (int r = 0; r < rows; ++r) {
      starts.push_back(static_cast<std::int64_t>(used) * block_tokens);
      for (std::int64_t i = 0; i < ceil_div(lengths[r], block_tokens); ++i) {
        table[static_cast<std::size_t>(r * stride + i)] = order[used++];
      }
      stable[r] = std::max(0, lengths[r] - 1);  // the step's own token is written by this step
    }
    ids = DeviceArray<std::int32_t>(table);
    firsts = DeviceArray<std::int64_t>(starts);
    map_row = DeviceArray<std::int32_t>(map_rows);
    length = DeviceArray<std::int32_t>(lengths);
    stable_length = DeviceArray<std::int32_t>(stable);
    table_map = {ids.get(), stride, block_tokens};
    affine_map = {firsts.get()};
    const std::size_t width = static_cast<std::size_t>(m.heads * m.head_dim);
    q = DeviceArray<std::uint16_t>(rows * width);
    out = DeviceArray<std::uint16_t>(rows * width);
    kernels::cuda::testing::fill_uniform(q.get(), q.size(), DType::f16, 1.5f, 23, lab.stream);
    schedule = kernels::cuda::decode_schedule(rows, longest, m.heads, layout, lab.sms);
    workspace = DeviceArray<unsigned char>(static_cast<std::size_t>(schedule.workspace.bytes));
    workspace.fill_bytes(0);
    kernels::cuda::plan_decode_attention(schedule, length.get(), rows, workspace.get(), lab.stream);
    KVSTOW_CUDA(cudaStreamSynchronize(lab.stream));
  }

  template <class Map>
  kernels::DecodeAttentionArgs<Map> args(const Map& map, int layer) const {
    const std::int64_t width = std::int64_t{model.heads} * model.head_dim;
    return {{pool, layout},
            layer,
            map,
            rows,
            model.heads,
            q.get(),
            width,
            out.get(),
            width,
            map_row.get(),
            length.get(),
            stable_length.get(),
            1 / std::sqrt(static_cast<float>(model.head_dim)),
            DType::f16};
  }

  template <class Map>
  void launch(const Map& map, int layer, kernels::cuda::Dependent dependent,
              cudaStream_t stream) const {
    kernels::cuda::decode_attention(args(map, layer), schedule, workspace.get(), stream, dependent);
  }

  // Relative L2 of the first rows of the last layer against double precision, the outputs poisoned
  // before. body(args, stream) is the kernel.
  template <class Map, class Body>
  double error_of(const Map& map, const Body& body) {
    out.fill_bytes(0xff);
    auto a = args(map, launches - 1);
    body(a, Lab::get().stream);
    KVSTOW_CUDA(cudaStreamSynchronize(Lab::get().stream));
    a.rows = std::min(rows, 4);
    const std::size_t count = static_cast<std::size_t>(a.rows) * model.heads * model.head_dim;
    DeviceArray<double> scratch(static_cast<std::size_t>(a.rows) * model.heads * longest);
    DeviceArray<double> reference(count);
    kernels::cuda::testing::decode_in_double(a, longest, scratch.get(), reference.get(), nullptr);
    KVSTOW_CUDA(cudaDeviceSynchronize());
    return kernels::cuda::testing::relative_l2(out.get(), DType::f16, reference.get(), count);
  }

  template <class Map>
  double error(const Map& map) {
    return error_of(map, [&](const kernels::DecodeAttentionArgs<Map>& a, cudaStream_t stream) {
      kernels::cuda::decode_attention(a, schedule, workspace.get(), stream);
    });
  }

  ModelShape model;
  int rows;
  int longest;
  std::size_t bytes = 0;
  int launches = 0;
  KvLayout layout{};
  std::uint16_t* pool = nullptr;
  DeviceArray<std::int32_t> ids;
  DeviceArray<std::int64_t> firsts;
  DeviceArray<std::int32_t> map_row;
  DeviceArray<std::int32_t> length;
  DeviceArray<std::int32_t> stable_length;
  DeviceArray<std::uint16_t> q;
  DeviceArray<std::uint16_t> out;
  DeviceArray<unsigned char> workspace;
  BlockTableMap table_map{};
  AffineMap affine_map{};
  kernels::cuda::DecodeSchedule schedule{};
};

}  // namespace kvstow::bench
