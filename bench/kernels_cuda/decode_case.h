// A step of decoding as the benchmarks of every decode body set it up.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "bench/kernels_cuda/lab.h"
#include "kernels/cuda/decode_attention.h"
#include "tests/cuda/placement.h"

namespace kvstow::bench {

// One step of decoding: rows of the given lengths, pages in random order, one layer per launch.
struct DecodeCase {
  using AffineMap = kernels::AffineMap;
  using BlockTableMap = kernels::BlockTableMap;
  using KvLayout = kernels::KvLayout;
  using DType = kernels::DType;
  using Placement = kernels::cuda::testing::Placement;
  template <class E>
  using DeviceArray = kernels::cuda::testing::DeviceArray<E>;

  DecodeCase(const ModelShape& m, const std::vector<std::int32_t>& lengths, int block_tokens)
      : model(m),
        rows(static_cast<int>(lengths.size())),
        placement(lengths, block_tokens, 5, Placement::Gaps::none),
        longest(placement.longest()),
        table_map(placement.table()),
        affine_map(placement.affine()),
        length(lengths) {
    Lab& lab = Lab::get();
    const std::int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
    bytes = static_cast<std::size_t>(4 * tokens * m.kv_heads * m.head_dim);
    launches = chain_launches(static_cast<double>(bytes));
    layout = {launches, m.kv_heads, m.head_dim, placement.slots(), DType::f16};
    pool = lab.numbers(static_cast<std::size_t>(layout.elements()) * 2);
    std::vector<std::int32_t> map_rows(lengths.size());
    std::iota(map_rows.begin(), map_rows.end(), 0);
    map_row = DeviceArray<std::int32_t>(map_rows);
    std::vector<std::int32_t> stable(lengths);  // the step's own token is written by this step
    for (std::int32_t& l : stable) l = std::max(0, l - 1);
    stable_length = DeviceArray<std::int32_t>(stable);
    const std::size_t width = static_cast<std::size_t>(m.heads * m.head_dim);
    q = DeviceArray<std::uint16_t>(rows * width);
    out = DeviceArray<std::uint16_t>(rows * width);
    kernels::cuda::testing::fill_uniform(q.get(), q.size(), DType::f16, 1.5f, 23, lab.stream);
    schedule = kernels::cuda::decode_schedule(rows, longest, m.heads, layout, lab.sms);
    workspace = DeviceArray<unsigned char>(static_cast<std::size_t>(schedule.workspace_bytes));
    plan(lab.stream);
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

  void plan(cudaStream_t stream) const {
    kernels::cuda::plan_decode_attention(schedule, map_row.get(), length.get(), rows,
                                         workspace.get(), stream);
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
  Placement placement;
  int longest;
  BlockTableMap table_map;
  AffineMap affine_map;
  DeviceArray<std::int32_t> length;
  std::size_t bytes = 0;
  int launches = 0;
  KvLayout layout{};
  std::uint16_t* pool = nullptr;
  DeviceArray<std::int32_t> map_row;
  DeviceArray<std::int32_t> stable_length;
  DeviceArray<std::uint16_t> q;
  DeviceArray<std::uint16_t> out;
  DeviceArray<unsigned char> workspace;
  kernels::cuda::DecodeSchedule schedule{};
};

}  // namespace kvstow::bench
