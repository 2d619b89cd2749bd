// How a body of decode attention is launched, and which one.
#pragma once

#include <algorithm>

#include "kernels/cuda/decode_attention.cuh"
#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/launch.h"

namespace kvstow::kernels::cuda {

struct DecodeLaunch {
  int blocks;
  int cluster;
  DecodeShare share;
  DecodeAhead ahead;
  cudaStream_t stream;
  Dependent dependent;
};

// Dynamic shared memory of a block. Allocated in units of 128 bytes, with 1024 for each block.
template <int kDim>
std::size_t decode_shared_bytes(DecodeShare share) {
  using Shared = typename DecodeTile<kDim>::Shared;
  constexpr std::size_t kHalf = 114 * 1024 - 1024;
  static_assert(DecodeTile<kDim>::kBlocks == 1 || Shared::kBytes <= kHalf - 128);
  if (share == DecodeShare::all) return sizeof(Shared);
  return share == DecodeShare::first ? kHalf + 128 : kHalf - 128;
}

template <class T, int kDim, class Map, DecodeAhead kAhead>
auto prepared_decode_kernel() {
  using Tile = DecodeTile<kDim>;
  static_assert(Tile::kBlocks * (sizeof(typename Tile::Shared) + 1024) <= 228 * 1024);
  const auto kernel = decode_kernel<T, kDim, Map, kAhead>;
  static const bool prepared = [&] {
    const std::size_t most =
        std::max(sizeof(typename Tile::Shared), decode_shared_bytes<kDim>(DecodeShare::first));
    KVSTOW_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(most)));
    return true;
  }();
  static_cast<void>(prepared);
  return kernel;
}

template <class T, int kDim, class Map>
void launch_decode_body(const DecodeParams& params, const Map& map, const DecodeLaunch& shape) {
  using Tile = DecodeTile<kDim>;
  auto kernel = prepared_decode_kernel<T, kDim, Map, DecodeAhead::nothing>();
  if constexpr (kDim == 128) {  // the only one for which this was measured
    static_assert(Tile::kResultsHoldTile);
    if (shape.ahead == DecodeAhead::second_tile) {
      kernel = prepared_decode_kernel<T, kDim, Map, DecodeAhead::second_tile>();
    }
    if constexpr (__is_same(Map, BlockTableMap)) {
      if (shape.ahead == DecodeAhead::ids) {
        kernel = prepared_decode_kernel<T, kDim, Map, DecodeAhead::ids>();
      }
    }
  }
  launch("decode attention", kernel,
         {.grid = dim3(static_cast<unsigned>(shape.blocks)),
          .block = dim3(Tile::kThreads),
          .shared_bytes = decode_shared_bytes<kDim>(shape.share),
          .cluster = shape.cluster,
          .dependent = shape.dependent == Dependent::yes},
         shape.stream, params, map);
}

// Clusters of that many blocks that run at once; 0 where there are no clusters.
template <class T, int kDim>
int resident_decode_clusters(int cluster) {
  using Tile = DecodeTile<kDim>;
  const auto kernel = prepared_decode_kernel<T, kDim, BlockTableMap, DecodeAhead::nothing>();
  int count = 0;
  if (cluster == 1) {
    KVSTOW_CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&count, kernel, Tile::kThreads,
                                                              sizeof(typename Tile::Shared)));
    return count * device_blocks();
  }
  cudaFuncAttributes attributes{};
  KVSTOW_CUDA(cudaFuncGetAttributes(&attributes, kernel));
  if (attributes.ptxVersion < 90) return 0;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(cluster));
  config.blockDim = dim3(Tile::kThreads);
  config.dynamicSmemBytes = sizeof(typename Tile::Shared);
  config.attrs = &attribute;
  config.numAttrs = 1;
  KVSTOW_CUDA(cudaOccupancyMaxActiveClusters(&count, kernel, &config));
  return count;
}

// The dispatch table: one body for each dtype (a source file each), head_dim and map.
template <class T, class Map>
void launch_decode(const DecodeParams& params, const Map& map, int head_dim,
                   const DecodeLaunch& shape);
template <class T>
int resident_clusters(int head_dim, int cluster);

}  // namespace kvstow::kernels::cuda
